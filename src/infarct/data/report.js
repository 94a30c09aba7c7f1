"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const { width, height, columns, start } = viewer.dataset;
  const outlines = JSON.parse(document.getElementById("outlines").textContent);
  const panes = viewer.querySelector(".panes");
  const slider = document.getElementById("slice");
  const contour = document.getElementById("contour");
  const status = document.getElementById("status");
  const radios = [...viewer.querySelectorAll("[name=image]")];
  const last = outlines.length - 1;

  document.documentElement.classList.add("js");

  const show = (slice) => {
    const z = Math.max(0, Math.min(last, slice));
    slider.value = z;
    const lesion = outlines[z] ? ", with lesion" : "";
    for (const svg of panes.querySelectorAll("svg")) {
      const sheet = svg.querySelector("use");
      sheet.setAttribute("x", -(z % columns) * width);
      sheet.setAttribute("y", -Math.floor(z / columns) * height);
      for (const path of svg.querySelectorAll("path")) path.setAttribute("d", outlines[z]);
      const name = svg.parentNode.querySelector(".name").textContent;
      svg.setAttribute("aria-label", `${name}, slice ${z + 1} of ${outlines.length}${lesion}`);
    }
    status.textContent = `Slice ${z + 1} of ${outlines.length}${lesion}`;
    slider.setAttribute("aria-valuetext", status.textContent);
  };
  const move = (by) => show(Number(slider.value) + by);
  const choose = (radio) => {
    radio.checked = true;
    panes.dataset.show = radio.value;
  };

  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const radio of radios) radio.addEventListener("change", () => choose(radio));
  contour.addEventListener("change", () => viewer.classList.toggle("plain", !contour.checked));

  // Mouse wheels send steps of about 100 and touchpads many small ones: accumulate them, so that
  // neither skips slices.
  let scrolled = 0;
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    scrolled += event.deltaMode ? Math.sign(event.deltaY) * 40 : event.deltaY;
    if (Math.abs(scrolled) < 40) return;
    move(-Math.sign(scrolled));
    scrolled = 0;
  }, { passive: false });

  // Horizontal drags change the slice; vertical drags keep scrolling the page.
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
    // On the radio buttons, arrow keys keep their standard behaviour.
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
