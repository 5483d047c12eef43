"""The networks of Wan-Fun-Camera, with a reader of their published weights.

Reference:
    aigc-apps/VideoX-Fun, `WanTransformer3DModel` with `add_control_adapter`, and the pipelines
    `WanFunControlPipeline` (Wan 2.1) and `Wan2_2FunControlPipeline`.
"""
