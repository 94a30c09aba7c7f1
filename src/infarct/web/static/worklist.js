// The worklist: upload, running jobs, and finished scans sorted by what needs attention.
import { call, el, say, send, sentence } from "/static/dom.js";
import { Upload } from "/static/upload.js";

const WAITING = { checking: "checking the images", queued: "waiting", running: "running" };

export async function worklistPage(main) {
  const { models } = await call("/api/models");
  const upload = new Upload(models);
  const jobs = el("section", { "aria-labelledby": "jobs-title", hidden: true }, el("h2", { id: "jobs-title" }, "Jobs"));
  const list = el("div", { class: "jobs" });
  jobs.append(list);
  const scans = el("section", { "aria-labelledby": "scans-title" }, el("h2", { id: "scans-title" }, "Worklist"));
  const table = el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Worklist" });
  scans.append(table);
  main.replaceChildren(el("h1", { class: "unseen" }, "Worklist"), upload.element, jobs, scans);
  let last = "";
  return {
    update(rows) {
      const waiting = rows.filter((row) => !["done", "damaged"].includes(row.state) && row.state !== "removed");
      const done = rows.filter((row) => ["done", "damaged"].includes(row.state));
      jobs.hidden = !waiting.length;
      const focused = document.activeElement?.dataset?.focus;
      list.replaceChildren(...waiting.map(jobRow));
      const text = JSON.stringify(done);
      if (text !== last) {
        last = text;
        table.replaceChildren(done.length ? scanTable(done) : el("p", { class: "note" }, "No results yet. Add a scan above; results of infarct segment, cohort and bids in this folder appear here as well."));
      }
      if (focused) main.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    },
    close() {},
  };
}

function jobRow(row) {
  const act = (label, action) =>
    el("button", { "data-focus": `${label}-${row.id}`, "aria-label": `${label} ${row.name}`, onclick: () => action().catch((error) => say(error.message, true)) }, label);
  if (row.state in WAITING) {
    const seconds = row.running_seconds === undefined ? "" : `, ${row.running_seconds} s`;
    return el(
      "div",
      { class: "job" },
      el("strong", {}, row.name),
      el("span", { class: "step" }, row.state === "running" ? `${row.step}${seconds}` : WAITING[row.state]),
      el("progress", { max: 1, value: row.progress ?? null, "aria-label": `Progress of ${row.name}`, class: row.state }),
      act("Cancel", () => send(`/api/scans/${row.id}/cancel`, "POST", {})),
    );
  }
  return el(
    "div",
    { class: `job ${row.state}` },
    el("strong", {}, row.name),
    el("span", { class: "step" }, row.state === "failed" ? sentence(`failed: ${row.error}`) : "Cancelled."),
    act("Remove", () => call(`/api/scans/${row.id}`, { method: "DELETE" })),
  );
}

function scanTable(rows) {
  const head = ["", "Scan", "Volume", "Probability", "90% interval", "Warnings", "Status", "Report"];
  return el(
    "table",
    { class: "worklist" },
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name || el("span", { class: "unseen" }, "Thumbnail"))))),
    el("tbody", {}, rows.map(scanRow)),
  );
}

function scanRow(row) {
  const link = el("a", { href: `#/scan/${row.id}` }, row.name);
  if (row.state === "damaged") return el("tr", {}, el("td"), el("th", { scope: "row" }, row.name), el("td", { colSpan: 6, class: "bad" }, sentence(row.error)));
  if (row.blinded) return el("tr", {}, el("td"), el("th", { scope: "row" }, link), el("td", { colSpan: 4, class: "note" }, "hidden until both readings are submitted"), el("td", {}, row.reading), el("td"));
  const warnings = row.warnings.length;
  const status = [row.corrected ? `corrected by ${row.corrected_by || "unnamed"}` : "", row.reading].filter(Boolean).join("; ") || "not reviewed";
  return el(
    "tr",
    {},
    el("td", {}, el("img", { class: "thumbnail", src: `/api/scans/${row.id}/thumbnail.jpg?v=${row.version.slice(0, 16)}`, alt: "", loading: "lazy", width: 40, height: 49 })),
    el("th", { scope: "row" }, link),
    el("td", {}, row.volume),
    el("td", {}, row.probability),
    el("td", {}, row.interval || "–"),
    el("td", { class: warnings ? "marked" : "", title: row.warnings.join("\n") }, warnings ? `${warnings} to check` : "none"),
    el("td", {}, status),
    el("td", {}, el("a", { href: `/api/scans/${row.id}/report`, target: "_blank", rel: "noopener", "aria-label": `Report of ${row.name}` }, "open")),
  );
}
