"use strict";
(() => {
  const { outlines, second, mirror, columns, start, lesions } = JSON.parse(document.getElementById("data").textContent);
  const viewer = document.getElementById("viewer");
  const panes = viewer.querySelector(".panes");
  const slider = document.getElementById("slice");
  const status = document.getElementById("status");
  const contour = document.getElementById("contour");
  const other = document.getElementById("other");
  const last = outlines.length - 1;
  const view = { zoom: 1, x: 0, y: 0 };

  // Each image: its pane, its pixels (8 bits per slice), and the window as values.
  const images = [...panes.querySelectorAll(".pane")].map((pane, index) => ({
    pane,
    key: pane.dataset.key,
    box: viewer.querySelectorAll("[name=image]")[index],
    canvas: pane.querySelector("canvas"),
    top: Number(pane.dataset.top),
    white: Number(pane.dataset.white),
    scale: Number(pane.dataset.scale),
    unit: pane.dataset.unit,
    low: 0,
    high: Number(pane.dataset.white),
    pixels: null,
  }));
  const { width, height } = images[0].canvas;
  const stops = [[0, [0, 0, 60]], [0.25, [60, 60, 190]], [0.5, [200, 90, 110]], [0.75, [255, 170, 50]], [1, [255, 250, 200]]];

  document.documentElement.classList.add("js");
  const slice = () => Number(slider.value);

  const load = async (image) => {
    const picture = new Image();
    picture.src = image.pane.dataset.uri;
    await picture.decode();
    const sheet = document.createElement("canvas");
    [sheet.width, sheet.height] = [picture.width, picture.height];
    const context = sheet.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    image.sheet = context;
    draw(image);
  };

  const grey = (image, z) => {
    const left = (z % columns) * width, top = Math.floor(z / columns) * height;
    return image.sheet.getImageData(left, top, width, height).data;
  };
  const colour = (share) => {
    let i = 1;
    while (i < stops.length - 1 && share > stops[i][0]) i += 1;
    const [[a, from], [b, to]] = [stops[i - 1], stops[i]];
    const t = (share - a) / (b - a);
    return from.map((c, k) => c + (to[k] - c) * t);
  };
  const draw = (image) => {
    if (!image.sheet || image.pane.hidden) return;
    const pixels = grey(image, slice());
    image.pixels = pixels;
    const made = new ImageData(width, height);
    const span = Math.max(image.high - image.low, image.top / 1000);
    const table = Array.from({ length: 256 }, (_, v) => Math.max(0, Math.min(1, (v / 255 * image.top - image.low) / span)));
    const map = image.key === "probability" || image.key === "uncertainty";
    const under = map && images[0].sheet ? grey(images[0], slice()) : null;
    for (let i = 0; i < pixels.length; i += 4) {
      const share = table[pixels[i]];
      if (map) {
        // Shown over the DWI, which is dimmed.
        const cover = Math.min(1, share * 4);
        const rgb = colour(share);
        const back = under ? Math.min(255, under[i] * images[0].top / images[0].white) * 0.6 : 0;
        for (let k = 0; k < 3; k += 1) made.data[i + k] = back * (1 - cover) + rgb[k] * cover;
      } else {
        made.data[i] = made.data[i + 1] = made.data[i + 2] = share * 255;
      }
      made.data[i + 3] = 255;
    }
    image.canvas.getContext("2d").putImageData(made, 0, 0);
  };

  const show = (to) => {
    const z = Math.max(0, Math.min(last, to));
    slider.value = z;
    const lesion = outlines[z] ? ", with lesion" : "";
    for (const image of images) {
      const [rim, line, dashed] = image.pane.querySelectorAll("path");
      rim.setAttribute("d", outlines[z]);
      line.setAttribute("d", outlines[z]);
      dashed.setAttribute("d", second[z] || "");
      const name = image.pane.querySelector(".name").textContent;
      image.canvas.setAttribute("aria-label", `${name}, slice ${z + 1} of ${outlines.length}${lesion}`);
      draw(image);
    }
    status.textContent = `Slice ${z + 1} of ${outlines.length}${lesion}`;
    slider.setAttribute("aria-valuetext", status.textContent);
  };
  const choose = () => {
    if (!images.some(({ box }) => box.checked)) images[0].box.checked = true;
    for (const image of images) image.pane.hidden = !image.box.checked;
    panes.dataset.count = images.filter(({ box }) => box.checked).length;
    images.forEach(draw);
  };
  const place = () => {
    const style = `translate(${view.x}%, ${view.y}%) scale(${view.zoom})`;
    for (const { pane } of images) pane.querySelector(".zoomed").style.transform = style;
  };
  const zoom = (by) => {
    const next = Math.max(1, Math.min(8, view.zoom * by));
    // The centre of the pane stays where it is.
    for (const axis of ["x", "y"]) view[axis] = 50 - (50 - view[axis]) * next / view.zoom;
    view.zoom = next;
    if (next === 1) view.x = view.y = 0;
    place();
  };
  const reset = () => {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    for (const image of images) [image.low, image.high] = [0, image.white];
    place();
    images.forEach(draw);
  };
  const toggle = (box, name) => viewer.classList.toggle(name, !box.checked);

  // Values under the pointer, and on the same place of the other side.
  const told = (image, x, y) => {
    const [i, j] = [Math.floor(x), Math.floor(y)];
    if (!image.pixels || i < 0 || j < 0 || i >= width || j >= height) return "–";
    const value = image.pixels[4 * (j * width + i)] / 255 * image.top * image.scale;
    return value >= 10 ? value.toPrecision(2) * 1 : value.toFixed(2);
  };
  const clear = () => {
    for (const { pane } of images) {
      pane.querySelector(".value").textContent = "";
      pane.querySelector(".spot").setAttribute("cx", -9);
    }
  };
  const read = (event) => {
    const canvas = event.target.closest(".pane")?.querySelector("canvas");
    if (!canvas) return clear();
    const box = canvas.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
    const [mx, my] = mirror.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * slice() + row[3]);
    for (const image of images) {
      if (image.pane.hidden) continue;
      image.pane.querySelector(".value").textContent = `${told(image, ...at)}, other side ${told(image, mx, my)} ${image.unit}`;
      const spot = image.pane.querySelector(".spot");
      spot.setAttribute("cx", mx);
      spot.setAttribute("cy", my);
    }
  };

  slider.addEventListener("input", () => show(slice()));
  for (const { box } of images) box.addEventListener("change", choose);
  contour?.addEventListener("change", () => toggle(contour, "plain"));
  other?.addEventListener("change", () => toggle(other, "alone"));
  document.getElementById("reset").addEventListener("click", reset);
  panes.addEventListener("dblclick", reset);

  // Mouse wheels send steps of about 100 and touchpads many small ones: accumulate them, so that
  // neither skips slices.
  let scrolled = 0;
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    scrolled += event.deltaMode ? Math.sign(event.deltaY) * 40 : event.deltaY;
    if (Math.abs(scrolled) < 40) return;
    show(slice() - Math.sign(scrolled));
    scrolled = 0;
  }, { passive: false });

  // A mouse drags window and level of one image (with Shift: the zoomed image); a finger swipes
  // through the slices, and up and down scrolls the page.
  let drag = null;
  panes.addEventListener("pointerdown", (event) => {
    const pane = event.target.closest(".pane");
    const image = images.find((each) => each.pane === pane);
    if (!image || event.button) return;
    drag = { image, x: event.clientX, y: event.clientY, z: slice(), low: image.low, high: image.high, view: { ...view } };
    panes.setPointerCapture(event.pointerId);
  });
  panes.addEventListener("pointermove", (event) => {
    if (!drag) return read(event);
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    const { image } = drag;
    const box = image.pane.getBoundingClientRect();
    if (event.pointerType === "touch") {
      show(drag.z + Math.round(dx / Math.max(5, panes.clientWidth / (last + 1))));
    } else if (event.shiftKey) {
      view.x = drag.view.x + 100 * dx / box.width;
      view.y = drag.view.y + 100 * dy / box.height;
      place();
    } else {
      const level = (drag.low + drag.high) / 2 + dy / box.height * image.white;
      const half = Math.max(image.top / 200, (drag.high - drag.low) / 2 * Math.exp(2 * dx / box.width));
      [image.low, image.high] = [level - half, level + half];
      draw(image);
      image.pane.querySelector(".value").textContent = `window ${(2 * half * image.scale).toPrecision(2) * 1}, level ${(level * image.scale).toPrecision(2) * 1} ${image.unit}`;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) panes.addEventListener(end, () => { drag = null; });
  panes.addEventListener("pointerleave", clear);

  const nextLesion = () => {
    const z = [...lesions].sort((a, b) => a - b).find((each) => each > slice());
    if (lesions.length) show(z ?? Math.min(...lesions));
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    // The slider moves on its own.
    if (event.target.type === "range" && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    const keys = {
      ArrowRight: () => show(slice() + 1),
      ArrowLeft: () => show(slice() - 1),
      "+": () => zoom(1.25),
      "=": () => zoom(1.25),
      "-": () => zoom(0.8),
      0: reset,
      l: nextLesion,
      c: () => contour?.click(),
      s: () => other?.click(),
    };
    const box = images[event.key - 1]?.box;
    const act = keys[event.key] ?? keys[event.key.toLowerCase()] ?? (box && (() => box.click()));
    if (!act) return;
    event.preventDefault();
    act();
  });

  for (const link of document.querySelectorAll(".goto")) {
    link.addEventListener("click", () => {
      show(Number(link.dataset.slice));
      if ("second" in link.dataset && other && !other.checked) other.click();
      viewer.focus({ preventScroll: true });
    });
  }
  if (matchMedia("(min-width: 1200px)").matches) images.forEach(({ box }, index) => { box.checked = index < 4; });
  choose();
  show(start);
  images.forEach(load);
})();
