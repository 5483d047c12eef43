"""Working components that `lift new` copies: `SLOT.py` and its test `test_SLOT.py` for each slot.

`NewPlanner` and `new_planner` are replaced by the names of the new component. The modules are
checked like all others. None is imported by `lift`, so none of them is registered.
"""
