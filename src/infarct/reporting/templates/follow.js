"use strict";
(() => {
  const { shapes, columns, width, height, start, slices } = JSON.parse(document.getElementById("data").textContent);
  const viewer = document.getElementById("viewer");
  const slider = document.getElementById("slice");
  const status = document.getElementById("status");
  const panes = viewer.querySelector(".panes");
  document.documentElement.classList.add("js");

  const slice = () => Number(slider.value);
  const kind = () => viewer.querySelector("[name=image]:checked").value;
  const show = (to) => {
    const z = Math.max(0, Math.min(slices - 1, to));
    slider.value = z;
    for (const pane of panes.querySelectorAll(".pane")) {
      for (const image of pane.querySelectorAll("image")) {
        image.setAttribute("visibility", image.dataset.kind === kind() ? "visible" : "hidden");
        image.setAttribute("x", -(z % columns) * width);
        image.setAttribute("y", -Math.floor(z / columns) * height);
      }
      for (const path of pane.querySelectorAll("path")) path.setAttribute("d", shapes[path.dataset.fate][z]);
    }
    status.textContent = `Slice ${z + 1} of ${slices}`;
    slider.setAttribute("aria-valuetext", status.textContent);
  };

  slider.addEventListener("input", () => show(slice()));
  for (const choice of viewer.querySelectorAll("[name=image]")) choice.addEventListener("change", () => show(slice()));
  const colours = document.getElementById("colours");
  colours.addEventListener("change", () => viewer.classList.toggle("plain", !colours.checked));

  // Mouse wheels send steps of about 100 and touchpads many small ones: accumulate them.
  let scrolled = 0;
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    scrolled += event.deltaMode ? Math.sign(event.deltaY) * 40 : event.deltaY;
    if (Math.abs(scrolled) < 40) return;
    show(slice() - Math.sign(scrolled));
    scrolled = 0;
  }, { passive: false });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.type === "range") return;
    const act = {
      ArrowRight: () => show(slice() + 1),
      ArrowLeft: () => show(slice() - 1),
      c: () => colours.click(),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  for (const link of document.querySelectorAll(".goto")) {
    link.addEventListener("click", () => show(Number(link.dataset.slice)));
  }
  show(start);
})();
