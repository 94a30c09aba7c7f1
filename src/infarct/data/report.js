"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const { width, height, columns, start } = viewer.dataset;
  const outlines = JSON.parse(document.getElementById("outlines").textContent);
  const panes = viewer.querySelector(".panes");
  const slider = document.getElementById("slice");
  const contour = document.getElementById("contour");
  const said = document.getElementById("said");
  const radios = [...viewer.querySelectorAll("[name=image]")];
  const last = outlines.length - 1;

  document.documentElement.classList.add("js");

  const show = (wanted) => {
    const z = Math.max(0, Math.min(last, wanted));
    slider.value = z;
    const lesion = outlines[z] ? ", lesion outlined" : "";
    for (const svg of panes.querySelectorAll("svg")) {
      const sheet = svg.querySelector("use");
      sheet.setAttribute("x", -(z % columns) * width);
      sheet.setAttribute("y", -Math.floor(z / columns) * height);
      for (const path of svg.querySelectorAll("path")) path.setAttribute("d", outlines[z]);
      const name = svg.parentNode.querySelector(".name").textContent;
      svg.setAttribute("aria-label", `${name}, slice ${z + 1} of ${outlines.length}${lesion}`);
    }
    said.textContent = `Slice ${z + 1} of ${outlines.length}${lesion}`;
    slider.setAttribute("aria-valuetext", said.textContent);
  };
  const move = (by) => show(Number(slider.value) + by);
  const choose = (radio) => {
    radio.checked = true;
    panes.dataset.show = radio.value;
  };

  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const radio of radios) radio.addEventListener("change", () => choose(radio));
  contour.addEventListener("change", () => viewer.classList.toggle("plain", !contour.checked));

  // A wheel turns by notches of about 100, a touchpad by many small steps: no slice is skipped.
  let turned = 0;
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    turned += event.deltaMode ? Math.sign(event.deltaY) * 40 : event.deltaY;
    if (Math.abs(turned) < 40) return;
    move(-Math.sign(turned));
    turned = 0;
  }, { passive: false });

  // Up and down go on scrolling the page; sideways changes the slice.
  let from = null;
  panes.addEventListener("pointerdown", (event) => {
    from = { x: event.clientX, z: Number(slider.value) };
    panes.setPointerCapture(event.pointerId);
  });
  panes.addEventListener("pointermove", (event) => {
    if (from) show(from.z + Math.round((event.clientX - from.x) / Math.max(5, panes.clientWidth / (last + 1))));
  });
  for (const end of ["pointerup", "pointercancel"]) panes.addEventListener(end, () => { from = null; });

  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    // Arrows on the choice of images choose images, as everywhere.
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return;
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -last, End: last };
    if (event.key in steps) move(steps[event.key]);
    else if (radios[event.key - 1]) choose(radios[event.key - 1]);
    else if (event.key.toLowerCase() === "c") contour.click();
    else return;
    event.preventDefault();
  });

  for (const link of document.querySelectorAll(".goto")) {
    link.addEventListener("click", () => {
      show(Number(link.dataset.slice));
      viewer.focus({ preventScroll: true });
    });
  }
  show(Number(start));
})();
