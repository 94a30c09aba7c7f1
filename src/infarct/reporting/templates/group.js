"use strict";
(() => {
  const body = document.querySelector("#cases tbody");
  const heads = [...document.querySelectorAll("#cases thead th")];
  const rows = [...body.rows];
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = document.getElementById("filter");
  const open = document.getElementById("open");
  const shown = document.getElementById("shown");
  const all = document.getElementById("all");
  let most = Number(document.getElementById("cases").dataset.most);
  const tick = (row) => row.cells[0].firstElementChild;

  // The ticks of this page; a browser may forbid the store for local files.
  const place = `infarct reviewed ${location.pathname}`;
  let reviewed = {};
  try {
    reviewed = JSON.parse(localStorage.getItem(place) ?? "{}");
  } catch {
    reviewed = {};
  }
  const keep = () => {
    try {
      localStorage.setItem(place, JSON.stringify(reviewed));
    } catch {
      shown.textContent = "This browser does not keep the ticks: export them before you close the page.";
    }
  };
  const count = () => {
    const wanted = filter.value.trim().toLowerCase();
    let n = 0;
    // In the order of the table: only the first rows are shown until the reader asks for all.
    for (const row of body.rows) {
      const fits = (wanted === "" || text.get(row).includes(wanted)) && !(open.checked && tick(row).checked);
      n += fits;
      row.hidden = !fits || n > most;
    }
    all.hidden = n <= most;
    const done = rows.filter((row) => tick(row).checked).length;
    shown.textContent = `${Math.min(n, most)} of ${rows.length} shown, ${done} reviewed`;
  };
  for (const row of rows) {
    tick(row).checked = tick(row).value in reviewed;
    row.classList.toggle("seen", tick(row).checked);
  }
  body.addEventListener("change", ({ target }) => {
    if (target.checked) reviewed[target.value] = new Date().toISOString();
    else delete reviewed[target.value];
    target.closest("tr").classList.toggle("seen", target.checked);
    count();
    keep();
  });
  document.getElementById("export").addEventListener("click", () => {
    const lines = rows.map((row) => [tick(row).value, tick(row).checked ? "yes" : "no", reviewed[tick(row).value] ?? "n/a"]);
    const table = [["case", "reviewed", "reviewed_utc"], ...lines].map((line) => `${line.join("\t")}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table], { type: "text/tab-separated-values" }));
    link.download = "reviewed.tsv";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  // Thousands of pictures are decoded only when they come into view, or for printing.
  const load = (image) => {
    if (!image.src) image.src = `data:image/jpeg;base64,${image.dataset.picture}`;
  };
  const pictures = [...body.querySelectorAll("img")];
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      load(target);
      watcher.unobserve(target);
    }
  }, { rootMargin: "400px" });
  for (const image of pictures) watcher.observe(image);
  const showAll = () => {
    most = Infinity;
    count();
  };
  all.addEventListener("click", showAll);
  addEventListener("beforeprint", () => {
    showAll();
    pictures.forEach(load);
  });

  // Failed cases have text instead of numbers: they come first in descending order.
  const key = (row, i) => {
    if (i === 0) return Number(tick(row).checked);
    const cell = row.cells[i].textContent.trim();
    if (i === 2) return cell;
    const number = parseFloat(cell.replace(/^(over|below) /, ""));
    if (!Number.isNaN(number)) return number;
    return row.cells[4].textContent ? -1 : Infinity;
  };
  heads.forEach((head, i) => head.querySelector("button")?.addEventListener("click", () => {
    const sorted = head.getAttribute("aria-sort");
    const down = sorted ? sorted === "ascending" : i > 2;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [key(row, i), row]);
    keyed.sort(([a], [b]) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b) * (down ? -1 : 1));
    body.replaceChildren(...keyed.map(([, row]) => row));
    count();
  }));
  filter.addEventListener("input", count);
  open.addEventListener("change", count);
  count();
})();
