// Blinded double reading: the panel of a scan, and the page with the agreement of all.
import { ask, call, el, remember, say, send, sentence } from "/static/dom.js";
import { pack, unpack } from "/static/labels.js";

const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export function readingPanel(page) {
  const reading = page.scan.double_reading;
  const section = el("section", { "aria-labelledby": "reading-title" }, el("h2", { id: "reading-title" }, "Double reading"));
  if (reading.readers.length) section.append(el("ul", { class: "plain" }, reading.readers.map((each) => el("li", {}, `${each.name}: ${each.submitted ? "submitted" : "reading"}`))));
  if (page.mode === "reading") return section;
  if (reading.readers.length < 2 && page.viewer) {
    section.append(
      el("p", { class: "note" }, "Two readers draw the mask independently; then the page shows how far they agree, and a third reader decides."),
      el("p", {}, el("button", { onclick: () => start(page) }, reading.readers.length ? "Start the second reading…" : "Start a double reading…")),
    );
  }
  if (reading.agreement) section.append(agreementList(reading.agreement));
  if (reading.adjudicated_by) section.append(el("p", {}, `Adjudicated by ${reading.adjudicated_by}.`));
  else if (reading.complete && page.viewer) section.append(el("p", { class: "buttons" }, el("button", { onclick: () => compare(page).catch((error) => say(error.message, true)) }, "Compare the two masks"), el("button", { class: "main", onclick: () => adjudicate(page) }, "Adjudicate…")));
  return section;
}

function agreementList(found) {
  const rows = [
    ["Dice", number(found.dice)],
    ["Volumes", `${number(found.first_ml)} and ${number(found.second_ml)} ml`],
    ["Volume difference", `${number(found.difference_ml)} ml`],
    ["95% Hausdorff distance", `${number(found.hausdorff95_mm, 1)} mm`],
  ];
  return el("dl", { class: "numbers agreement" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

async function start(page) {
  const reading = page.scan.double_reading;
  const fields = [{ name: "reader", label: "Your name or initials", value: remember("by") }];
  if (!reading.readers.length) fields.push({ name: "hide_automatic", label: "Hide the automatic result until both readings are submitted", type: "checkbox", value: true });
  const values = await ask("Start a blinded reading", fields, "Start", "Your mask stays hidden from the other reader until both are submitted.");
  if (!values) return;
  try {
    const own = await send(`/api/scans/${page.id}/reading`, "POST", { reader: values.reader, hide_automatic: values.hide_automatic ?? true });
    remember("by", own.reader);
    remember(`reading-${page.id}`, JSON.stringify(own));
    await page.reload();
  } catch (error) {
    say(error.message, true);
  }
}

// Shows both masks in the viewer: orange first reader only, blue second only, green both.
async function compare(page) {
  if (restore(page)) return;
  const [first, second] = await masks(page);
  const { labels } = page.viewer;
  page.kept = labels.data.slice();
  page.editor.locked = true;
  for (const [index, own] of labels.pairs()) labels.data[index] = first[own] ? (second[own] ? 3 : 1) : second[own] ? 2 : 0;
  page.viewer.overlay(true);
  const names = page.scan.double_reading.readers.map((each) => each.name);
  say(`Orange: ${names[0]} only; blue: ${names[1]} only; green: both. Compare again to see the mask.`);
}

// Shows the mask again after a comparison; returns whether there was one.
function restore(page) {
  if (!page.kept) return false;
  page.viewer.labels.data.set(page.kept);
  page.kept = null;
  page.editor.locked = false;
  page.viewer.overlay(true);
  say("");
  return true;
}

const masks = (page) => Promise.all([1, 2].map((which) => call(`/api/scans/${page.id}/reading/${which}`).then((mask) => unpack(mask.labels))));

async function adjudicate(page) {
  restore(page);
  const names = page.scan.double_reading.readers.map((each) => each.name);
  const choice = await choose(names);
  if (!choice) return;
  try {
    if (choice !== "own") {
      const [first, second] = await masks(page);
      const pick = { first: (a) => a, second: (_, b) => b, both: (a, b) => a && b, either: (a, b) => a || b }[choice];
      page.replace(first.map((each, n) => (pick(each, second[n]) ? 1 : 0)));
    }
    const values = await ask("Adjudicate", [{ name: "by", label: "Your name or initials (third reader)", value: remember("by") }, { name: "reason", label: "Reason for the decision", type: "long" }], "Save", "The mask shown now becomes the result; the change is recorded in the audit trail.");
    if (!values) return;
    say("Measuring the adjudicated mask…");
    const labels = await pack(page.viewer.labels.toFile());
    await send(`/api/scans/${page.id}/adjudication`, "POST", { labels, version: page.editor.version, ...values });
    page.editor.forget();
    await page.reload();
    say("The adjudicated mask is saved.");
  } catch (error) {
    say(error.message, true);
  }
}

function choose(names) {
  const options = { first: `the mask of ${names[0]}`, second: `the mask of ${names[1]}`, both: "voxels that both marked", either: "voxels that either marked", own: "the mask as it is in the viewer" };
  return new Promise((resolve) => {
    const select = el("select", { id: "adjudicate" }, Object.entries(options).map(([value, text]) => el("option", { value }, text)));
    const dialog = el("dialog", { "aria-labelledby": "choose-title" });
    const finish = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.append(
      el("form", { method: "dialog", onsubmit: (event) => (event.preventDefault(), finish(select.value)) }, el("h2", { id: "choose-title" }, "Adjudicate"), el("p", {}, el("label", { htmlFor: "adjudicate" }, "Result: "), select), el("p", { class: "buttons" }, el("button", { class: "main" }, "Continue"), el("button", { type: "button", onclick: () => finish(null) }, "Cancel"))),
    );
    dialog.addEventListener("cancel", (event) => (event.preventDefault(), finish(null)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function readingsPage(main) {
  const { summary, scans } = await call("/api/readings");
  const interval = summary.icc_interval[0] === null ? "" : ` [${number(summary.icc_interval[0])}, ${number(summary.icc_interval[1])}]`;
  const rows = [
    ["Scans", `${summary.scans} (${summary.both_empty} without a lesion for both)`],
    ["Mean Dice", number(summary.mean_dice)],
    ["ICC of the volume", number(summary.icc) + interval],
    ["Bias and limits of agreement", summary.bias_ml === null ? "–" : `${number(summary.bias_ml)} ml [${number(summary.limits_ml[0])}, ${number(summary.limits_ml[1])}]`],
  ];
  const head = ["Scan", "Readers", "Dice", "Volumes", "Difference", "Decision"];
  main.replaceChildren(
    el("h1", {}, "Double readings"),
    scans.length ? "" : el("p", { class: "note" }, "No complete double reading yet. Open a scan and start one."),
    el("dl", { class: "numbers" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Double readings" }, scans.length ? el("table", {}, el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, scans.map((scan) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: `#/scan/${scan.id}` }, scan.name)), el("td", {}, scan.readers.map((each) => each.name).join(", ")), el("td", {}, number(scan.agreement.dice)), el("td", {}, `${number(scan.agreement.first_ml)} and ${number(scan.agreement.second_ml)} ml`), el("td", {}, `${number(scan.agreement.difference_ml)} ml`), el("td", {}, sentence(scan.status)))))) : ""),
  );
  return { update() {}, close() {} };
}
