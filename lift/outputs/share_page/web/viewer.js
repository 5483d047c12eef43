// The viewer of a share page: Spark draws the Gaussians, OrbitControls of three.js moves the camera.
//
// World: axes of the input camera in OpenGL's convention (x right, y up, z back), input camera at
// the origin. Lengths are in scene units.
import {
  AnimationClip,
  AnimationMixer,
  Matrix4,
  Object3D,
  PerspectiveCamera,
  QuaternionKeyframeTrack,
  Scene,
  VectorKeyframeTrack,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";

const MAX_PIXEL_RATIO = 2;
const BLEND_SECONDS = 0.5; // from one way of moving to another
const DAMPING = 8; // rate in 1 / s at which a motion ends after a drag
const KEY_STEP = 0.1; // of the larger azimuth limit, for each key press
const FAR_DISTANCES = 1000; // of the far plane, in distances of the target
const VARIANCE = 0.3; // added to each Gaussian in squared pixels of a frame, as lift does
const STANDARD_DEVIATIONS = Math.sqrt(2 * Math.log(255)); // at which alpha falls below 1 / 255

const radians = (degrees) => (degrees * Math.PI) / 180;
const ease = (t) => t * t * (3 - 2 * t);

/** Shows a scene and moves its camera. The page's buttons and tests call its methods. */
export class ShareViewer extends EventTarget {
  /**
   * @param {object} scene What lift/outputs/share_page/content.py describes.
   * @param {HTMLElement} stage Element that the picture lies in. It receives the pointer.
   * @param {HTMLCanvasElement} canvas The canvas in the stage.
   * @param {boolean} embedded Leave the wheel and vertical swipes to the page around this one.
   */
  constructor(scene, stage, canvas, embedded) {
    super();
    this.scene = scene;
    this.stage = stage;
    this.canvas = canvas;
    this.fill = false;
    this.mode = "orbit";
    this.playing = false;
    this.ready = false;
    this.needsRender = true;
    this.blend = 1;
    this.blendFrom = new Object3D();
    this.view = new PerspectiveCamera();
    this.rig = new PerspectiveCamera();
    this.fly = new Object3D();
    this.#makeRenderer();
    this.#makeControls(embedded);
    this.#makeFlyThrough();
    this.layout();
    new ResizeObserver(() => this.layout()).observe(stage);
  }

  #makeRenderer() {
    this.renderer = new WebGLRenderer({ canvas: this.canvas, antialias: false });
    this.renderer.setClearColor(0x000000, 1);
    this.canvas.addEventListener("webglcontextlost", () => this.#emit("lost"));
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      onDirty: () => this.invalidate(),
      enableLod: false,
      accumExtSplats: true,
      sortRadial: false,
      blurAmount: 0,
      maxStdDev: STANDARD_DEVIATIONS,
    });
    this.world = new Scene();
    this.world.add(this.spark);
  }

  #makeControls(embedded) {
    const { inputDistance, azimuth, elevation, distance } = this.scene.region;
    if (embedded) {
      const leave = (event) => event.ctrlKey || event.stopImmediatePropagation();
      this.stage.addEventListener("wheel", leave, { capture: true, passive: true });
    }
    const controls = new OrbitControls(this.rig, this.stage);
    if (embedded) this.stage.style.touchAction = "pan-y";
    controls.target.set(0, 0, -inputDistance);
    controls.minAzimuthAngle = radians(azimuth[0]);
    controls.maxAzimuthAngle = radians(azimuth[1]);
    controls.minPolarAngle = Math.PI / 2 - radians(elevation[1]);
    controls.maxPolarAngle = Math.PI / 2 - radians(elevation[0]);
    controls.minDistance = distance[0];
    controls.maxDistance = distance[1];
    controls.enablePan = false;
    controls.enableDamping = true;
    controls.zoomSpeed = 0.6;
    controls.update();
    controls.saveState();
    controls.addEventListener("start", () => this.#takeOver());
    controls.addEventListener("change", () => this.invalidate());
    this.controls = controls;
  }

  #makeFlyThrough() {
    const { seconds, poses } = this.scene.flyThrough;
    const closed = poses.length > 1 ? [...poses, poses[0]] : poses;
    const times = closed.map((_, index) => (seconds * index) / Math.max(1, closed.length - 1));
    const positions = closed.flatMap((pose) => pose.slice(0, 3));
    const quaternions = closed.flatMap((pose) => pose.slice(3));
    const clip = new AnimationClip("fly-through", seconds, [
      new VectorKeyframeTrack(".position", times, positions),
      new QuaternionKeyframeTrack(".quaternion", times, quaternions),
    ]);
    this.mixer = new AnimationMixer(this.fly);
    this.mixer.clipAction(clip).play();
    this.flyTime = 0;
  }

  /**
   * Reads the Gaussians and starts to draw.
   * @param {Uint8Array} bytes The file of the Gaussians.
   */
  async load(bytes) {
    const { type, fileToInput } = this.scene.splats;
    const mesh = new SplatMesh({ fileBytes: bytes, fileType: type, extSplats: true });
    await mesh.initialized;
    new Matrix4()
      .fromArray(fileToInput)
      .transpose()
      .decompose(mesh.position, mesh.quaternion, mesh.scale);
    this.world.add(mesh);
    this.count = mesh.splats.getNumSplats();
    this.renderer.setAnimationLoop((time) => this.#frame(time / 1000));
  }

  /** Fits the picture into the stage, or fills the stage with its middle. */
  layout() {
    const { width, height, focal, center } = this.scene.input;
    const stageWidth = Math.max(1, this.stage.clientWidth);
    const stageHeight = Math.max(1, this.stage.clientHeight);
    const scale = Math.min(stageWidth / width, stageHeight / height);
    const size = this.fill
      ? [stageWidth, stageHeight]
      : [Math.round(width * scale), Math.round(height * scale)];
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, MAX_PIXEL_RATIO));
    this.renderer.setSize(size[0], size[1]);
    // Whole pixels: between pixels, the browser would blur the picture.
    this.canvas.style.left = `${Math.floor((stageWidth - size[0]) / 2)}px`;
    this.canvas.style.top = `${Math.floor((stageHeight - size[1]) / 2)}px`;
    // The window of the input's pixels that the canvas shows, about the middle.
    const pixels = Math.max(size[0] / width, size[1] / height);
    const [cropWidth, cropHeight] = this.fill ? size.map((side) => side / pixels) : [width, height];
    const left = (width - cropWidth) / 2 + width / 2 - center[0];
    const top = (height - cropHeight) / 2 + height / 2 - center[1];
    const far = FAR_DISTANCES * this.scene.region.inputDistance;
    this.view.fov = (2 * Math.atan(height / 2 / focal[1]) * 180) / Math.PI;
    this.view.aspect = width / focal[0] / (height / focal[1]);
    this.view.near = this.scene.region.near;
    this.view.far = far;
    this.view.setViewOffset(width, height, left, top, cropWidth, cropHeight);
    this.#blurAsFrames(pixels * this.renderer.getPixelRatio());
    // Half of the picture's width turns the camera to the azimuth's limit.
    const turn = Math.max(...this.scene.region.azimuth.map(Math.abs), 1);
    this.controls.rotateSpeed = (radians(turn) * stageHeight) / (Math.PI * size[0]);
    this.invalidate();
  }

  /**
   * Blurs Gaussians by what the frames blurred them, less what the file's Gaussians already have.
   * @param {number} scale Pixels of the canvas for each pixel of the input.
   */
  #blurAsFrames(scale) {
    const { frameFocal, addedBlur } = this.scene.splats;
    const area = ((scale * this.scene.input.focal[0]) / frameFocal) ** 2; // of a frame's pixel
    this.spark.preBlurAmount = VARIANCE * (Math.max(1, area) - addedBlur * area);
  }

  /** Plays the fly-through, from where it was paused. */
  play() {
    this.#switchTo("fly");
    this.playing = true;
    this.#emit("change");
  }

  /** Pauses the fly-through. */
  pause() {
    this.playing = false;
    this.#emit("change");
  }

  /** Returns to the input view. */
  reset() {
    this.#switchTo("orbit");
    this.playing = false;
    this.flyTime = 0;
    this.controls.enableDamping = false;
    this.controls.update(); // uses up the rest of a motion
    this.controls.reset();
    this.controls.enableDamping = true;
    this.#emit("change");
  }

  /**
   * Fills the stage, or shows the whole picture.
   * @param {boolean} fill Fill the stage.
   */
  setFill(fill) {
    this.fill = fill;
    this.layout();
    this.#emit("change");
  }

  /**
   * Turns the camera and moves it to the target by steps, for keys.
   * @param {number} right Steps to the right.
   * @param {number} up Steps upwards.
   * @param {number} closer Steps towards the target.
   */
  step(right, up, closer) {
    this.#takeOver();
    const angle = KEY_STEP * Math.max(...this.scene.region.azimuth.map((x) => radians(Math.abs(x))));
    if (right) this.controls.rotateLeft(-right * angle);
    if (up) this.controls.rotateUp(up * angle);
    if (closer > 0) this.controls.dollyIn(0.95);
    if (closer < 0) this.controls.dollyOut(0.95);
  }

  /** Where the camera is: azimuth and elevation in degrees, distance from the target. */
  get orbit() {
    const degrees = (angle) => (angle * 180) / Math.PI;
    return {
      azimuth: degrees(this.controls.getAzimuthalAngle()),
      elevation: 90 - degrees(this.controls.getPolarAngle()),
      distance: this.controls.getDistance(),
    };
  }

  /** Whether the picture is final: nothing moves, and the Gaussians are sorted for the view. */
  get settled() {
    const { sorting, sortDirty, dirty } = this.spark;
    const busy = sorting || sortDirty || dirty || this.needsRender;
    return this.ready && !this.playing && this.blend >= 1 && !busy;
  }

  /** Draws the next frame even if nothing moves. */
  invalidate() {
    this.needsRender = true;
  }

  #emit(name) {
    this.dispatchEvent(new Event(name));
  }

  /** The user moves the camera: leave the fly-through at the nearest place that orbits allow. */
  #takeOver() {
    if (this.mode === "orbit") return;
    this.#switchTo("orbit");
    this.rig.position.copy(this.view.position);
    this.controls.update();
    this.playing = false;
    this.#emit("change");
  }

  #switchTo(mode) {
    this.blendFrom.position.copy(this.view.position);
    this.blendFrom.quaternion.copy(this.view.quaternion);
    this.blend = 0;
    this.mode = mode;
    this.invalidate();
  }

  #frame(now) {
    const elapsed = Math.min(1, now - (this.lastFrame ?? now));
    this.lastFrame = now;
    this.controls.dampingFactor = 1 - Math.exp(-DAMPING * elapsed);
    this.controls.update();
    if (this.playing) {
      this.flyTime = (this.flyTime + elapsed) % this.scene.flyThrough.seconds;
      this.invalidate();
    }
    if (this.blend < 1) {
      this.blend = Math.min(1, this.blend + elapsed / BLEND_SECONDS);
      this.invalidate();
    }
    if (!this.needsRender) return;
    this.needsRender = false;
    this.mixer.setTime(this.flyTime);
    const goal = this.mode === "fly" ? this.fly : this.rig;
    this.view.position.lerpVectors(this.blendFrom.position, goal.position, ease(this.blend));
    this.view.quaternion.slerpQuaternions(
      this.blendFrom.quaternion,
      goal.quaternion,
      ease(this.blend),
    );
    this.renderer.render(this.world, this.view);
    const { activeSplats, sorting, sortDirty } = this.spark;
    if (!this.ready && activeSplats > 0 && !sorting && !sortDirty) {
      this.ready = true;
      this.#emit("ready");
    }
  }
}
