"use strict";
// The page is complete without this script. It adds the interactive scene, sliders, the lightbox,
// tabs and copy buttons.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
  document.documentElement.classList.add("scripted");

  const decodeBase64 = (text) => {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  };

  // The scene: its page is unpacked into a frame when somebody asks for it.
  const viewport = document.getElementById("scene");
  const open = document.getElementById("open-scene");
  const inflate = async (text) => {
    const unpacked = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(unpacked).text();
  };
  const openScene = async () => {
    open.disabled = true;
    viewport.classList.add("loading");
    try {
      const frame = make("iframe", {
        title: "Interactive scene",
        allow: "fullscreen *", // also for a page from a file, whose origin has no name
        srcdoc: await inflate(document.getElementById("scene-page").textContent.trim()),
      });
      frame.addEventListener("load", () => {
        viewport.classList.remove("loading");
        frame.focus();
      });
      viewport.append(frame);
      viewport.classList.add("opened");
      open.remove();
    } catch (error) {
      viewport.classList.remove("loading");
      open.disabled = false;
      open.querySelector("small").textContent = `This browser cannot open the scene (${error.message}).`;
    }
  };
  if (open) open.addEventListener("click", openScene);

  // The film: Safari plays a blob, but not a long data URL.
  const film = document.getElementById("film");
  if (film) {
    const source = film.getAttribute("src");
    if (source.startsWith("data:")) {
      const [head, data] = source.split(",", 2);
      const type = head.slice(5).split(";")[0];
      film.src = URL.createObjectURL(new Blob([decodeBase64(data)], { type }));
    }
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) film.play().catch(() => {});
  }

  // Frames against renders: a slider for each pair.
  for (const pair of all(".pair")) {
    const input = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50 });
    input.setAttribute("aria-label", `Divide between ${pair.dataset.left} and ${pair.dataset.right}`);
    const move = (value) => {
      input.value = value;
      pair.style.setProperty("--split", `${input.value}%`);
      input.setAttribute("aria-valuetext", `${input.value} % ${pair.dataset.left}`);
    };
    const follow = (event) => {
      const box = pair.getBoundingClientRect();
      move((100 * (event.clientX - box.left)) / box.width);
    };
    pair.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      input.focus({ preventScroll: true, focusVisible: false });
      pair.setPointerCapture(event.pointerId);
      follow(event);
    });
    pair.addEventListener("pointermove", (event) => {
      if (pair.hasPointerCapture(event.pointerId)) follow(event);
    });
    input.addEventListener("input", () => move(input.value));
    pair.classList.add("slider");
    pair.append(make("div", { className: "handle" }), input);
    move(50);
  }

  // Tabs: one row at a time.
  const rows = all(".row");
  const tabs = document.querySelector(".tabs");
  if (rows.length > 1) {
    const select = (chosen) => {
      rows.forEach((row, number) => {
        row.hidden = number !== chosen;
        const tab = tabs.children[number];
        tab.setAttribute("aria-selected", String(number === chosen));
        tab.tabIndex = number === chosen ? 0 : -1;
      });
    };
    rows.forEach((row, number) => {
      row.id = `row-${number}`;
      row.setAttribute("role", "tabpanel");
      const tab = make("button", { type: "button", textContent: row.dataset.tab });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", row.id);
      tab.addEventListener("click", () => select(number));
      tabs.append(tab);
    });
    tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const now = [...tabs.children].indexOf(document.activeElement);
      const next = (now + step + rows.length) % rows.length;
      select(next);
      tabs.children[next].focus();
    });
    tabs.hidden = false;
    select(0);
  }

  // The lightbox: pictures of one group can be turned.
  const box = document.getElementById("lightbox");
  const [back, on] = all(".turn", box);
  let group = [];
  let shown = 0;
  const show = (number) => {
    shown = (number + group.length) % group.length;
    const picture = group[shown];
    const large = box.querySelector("img");
    large.src = picture.src;
    large.alt = picture.alt;
    // Below a picture of a clip is its number, which the description has, too, and its PSNR.
    const caption = picture.closest(".strip figure")?.querySelector("figcaption").textContent ?? "";
    const details = caption.split(" · ").slice(1);
    box.querySelector("figcaption").textContent = [picture.alt, ...details].join(" · ");
    back.hidden = on.hidden = group.length < 2;
  };
  const enlarge = (picture) => {
    group = all("img[data-zoom]", picture.closest(".strip, .aside, .stills, .input"));
    show(group.indexOf(picture));
    box.showModal();
  };
  for (const picture of all("img[data-zoom]")) {
    if (picture.closest(".pair")) continue;
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.setAttribute("aria-label", `Enlarge: ${picture.alt}`);
    picture.addEventListener("click", () => enlarge(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(picture);
    });
  }
  back.addEventListener("click", () => show(shown - 1));
  on.addEventListener("click", () => show(shown + 1));
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(shown - 1);
    if (event.key === "ArrowRight") show(shown + 1);
  });
  box.addEventListener("click", (event) => {
    if (!event.target.closest("img, button")) box.close();
  });

  // Commands.
  const copyText = async (text) => {
    if (navigator.clipboard) {
      try {
        return await navigator.clipboard.writeText(text);
      } catch {
        // Some browsers refuse this for local files. The old way works there.
      }
    }
    const area = make("textarea", { value: text });
    area.style.position = "fixed";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("not copied");
  };
  for (const button of all("[data-copy]")) {
    button.addEventListener("click", async () => {
      try {
        await copyText(button.dataset.copy);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Selected";
      }
      button.focus();
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }

  // Folded parts.
  for (const button of all("[data-unfold]")) {
    const parts = all("details", document.getElementById(button.dataset.unfold));
    const rename = () => {
      button.textContent = parts.every((part) => part.open) ? "Fold all" : "Unfold all";
    };
    button.addEventListener("click", () => {
      const unfold = !parts.every((part) => part.open);
      for (const part of parts) part.open = unfold;
    });
    for (const part of parts) part.addEventListener("toggle", rename);
  }
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = all("details:not([open])");
    for (const part of unfolded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of unfolded) part.open = false;
  });
})();
