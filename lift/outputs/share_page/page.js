// Starts the viewer of a share page and connects its buttons and keys.
(() => {
  "use strict";
  const find = (id) => document.getElementById(id);
  const root = document.documentElement;
  const stage = find("stage");
  const ICONS = { play: "M6 4l10 6-10 6z", pause: "M6 4v12M14 4v12" };
  const HINT_SECONDS = 6;
  const MAX_ASPECT_RATIO = 1.5; // of a picture and an upright window that shows it whole
  const embedded = root.classList.contains("embedded");
  const settings = JSON.parse(find("settings").textContent);

  // A wide picture would be a strip in the middle of a phone that is held upright.
  const prefersFill = () => {
    const { width, height } = settings.input;
    const upright = innerHeight > innerWidth;
    const ratio = width / height / (innerWidth / innerHeight);
    return !embedded && upright && ratio > MAX_ASPECT_RATIO;
  };

  const fail = (text) => {
    root.dataset.state = "failed";
    stage.classList.remove("fill");
    find("message").textContent = text;
    find("message").hidden = false;
    for (const button of document.querySelectorAll("nav button")) button.disabled = true;
  };

  const bytesOf = (id) => {
    const element = find(id);
    const text = atob(element.textContent);
    element.remove(); // frees memory
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  };

  const inflate = (bytes) => {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const connect = (viewer) => {
    const play = find("play");
    const toggle = () => (viewer.playing ? viewer.pause() : viewer.play());
    const showState = () => {
      play.querySelector("path").setAttribute("d", viewer.playing ? ICONS.pause : ICONS.play);
      play.querySelector("span").textContent = viewer.playing ? "Pause" : "Play";
      play.setAttribute("aria-label", viewer.playing ? "Pause" : "Play the fly-through");
      find("fill").setAttribute("aria-pressed", String(viewer.fill));
      stage.classList.toggle("fill", viewer.fill);
    };
    const fullScreen = () =>
      document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
    play.addEventListener("click", toggle);
    find("reset").addEventListener("click", () => viewer.reset());
    find("reset").setAttribute("aria-label", "Reset the view");
    let filled = viewer.fill; // null after the user chose
    const toggleFill = () => {
      filled = null;
      viewer.setFill(!viewer.fill);
    };
    const fillByDefault = () => {
      if (filled === null || filled === prefersFill()) return;
      filled = prefersFill();
      viewer.setFill(filled);
    };
    addEventListener("resize", fillByDefault);
    fillByDefault();
    find("fill").addEventListener("click", toggleFill);
    find("fill").setAttribute("aria-label", "Fill the window");
    find("full").addEventListener("click", fullScreen);
    find("full").setAttribute("aria-label", "Full screen");
    find("full").hidden = !document.fullscreenEnabled;
    viewer.addEventListener("change", showState);
    showState();

    const keys = {
      ArrowLeft: () => viewer.step(-1, 0, 0),
      ArrowRight: () => viewer.step(1, 0, 0),
      ArrowUp: () => viewer.step(0, 1, 0),
      ArrowDown: () => viewer.step(0, -1, 0),
      "+": () => viewer.step(0, 0, 1),
      "=": () => viewer.step(0, 0, 1),
      "-": () => viewer.step(0, 0, -1),
      " ": toggle,
      r: () => viewer.reset(),
      Home: () => viewer.reset(),
      c: toggleFill,
      f: () => document.fullscreenEnabled && fullScreen(),
    };
    document.addEventListener("keydown", (event) => {
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const isButton = event.target instanceof HTMLButtonElement && key === " ";
      if (event.ctrlKey || event.metaKey || event.altKey || isButton || !keys[key]) return;
      event.preventDefault();
      hideHint();
      keys[key]();
    });
    for (const button of document.querySelectorAll("nav button")) button.disabled = false;
  };

  const hideHint = () => find("hint").classList.remove("shown");
  const showHint = () => {
    const touch = matchMedia("(pointer: coarse)").matches;
    const zoom = touch ? "pinch" : embedded ? "Ctrl and wheel" : "wheel";
    find("hint").textContent = `Drag to look around · ${zoom} to move closer`;
    find("hint").classList.add("shown");
    setTimeout(hideHint, 1000 * HINT_SECONDS);
    stage.addEventListener("pointerdown", hideHint);
    stage.addEventListener("wheel", hideHint, { passive: true });
  };

  const start = async () => {
    if (!document.createElement("canvas").getContext("webgl2")) {
      return fail("This browser cannot show the scene in 3D: it has no WebGL 2, or it is off.");
    }
    if (typeof DecompressionStream === "undefined") {
      return fail("This browser is too old to show the scene in 3D. Open it in a current one.");
    }
    find("message").textContent = "Loading the 3D scene …";
    const script = document.createElement("script");
    script.textContent = await inflate(bytesOf("viewer"));
    document.head.append(script);
    const viewer = new liftShare.ShareViewer(settings, stage, find("canvas"), embedded);
    viewer.setFill(stage.classList.contains("fill"));
    window.liftViewer = viewer;
    viewer.addEventListener("lost", () =>
      fail("The graphics card stopped drawing the scene. Reload the page."),
    );
    viewer.addEventListener("ready", () => {
      root.dataset.state = "ready";
      find("message").hidden = true;
      connect(viewer);
      showHint();
    });
    await viewer.load(bytesOf("gaussians"));
  };

  stage.classList.toggle("fill", prefersFill()); // before the first paint
  start().catch((error) => {
    console.error(error);
    fail(`The scene cannot be shown in 3D: ${error.message || error}`);
  });
})();
