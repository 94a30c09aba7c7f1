// One scan: linked images, lesions, editing, audit trail, downloads, and double reading.
import { ask, call, el, remember, say, send, sentence } from "/static/dom.js";
import { Editor } from "/static/editor.js";
import { pack, unpack } from "/static/labels.js";
import { readingPanel } from "/static/reading.js";
import { PLANE_NAMES, Viewer } from "/static/viewer.js";

const ml = (volume) => (volume >= 9.995 ? `${volume.toFixed(1)} ml` : `${volume.toFixed(2)} ml`);
const chance = (p) => (p === null ? "–" : p > 0.99 ? "over 99%" : p < 0.01 ? "below 1%" : `${Math.round(p * 100)}%`);

export async function scanPage(main, id) {
  const page = new ScanPage(main, id);
  await page.open();
  return page;
}

class ScanPage {
  constructor(main, id) {
    this.main = main;
    this.id = id;
    this.key = this.key.bind(this);
    this.rows = "";
  }

  async open() {
    this.scan = await call(`/api/scans/${this.id}`);
    if (this.scan.state !== "done") {
      this.main.replaceChildren(el("h1", {}, this.scan.name), el("p", {}, this.scan.error ? sentence(this.scan.error) : `This scan is not finished: ${this.scan.state}.`));
      return;
    }
    const reading = this.scan.double_reading;
    this.own = JSON.parse(remember(`reading-${this.id}`) || "null");
    const mine = this.own && reading.readers.find((each) => each.name === this.own.reader);
    if (this.own && !mine) {
      remember(`reading-${this.id}`, null);
      this.own = null;
    }
    this.mode = mine && !mine.submitted ? "reading" : reading.blinded ? "blinded" : "review";
    this.status = el("output", { class: "where", "aria-live": "polite" });
    this.panel = el("div", { class: "panel" });
    this.frame = el("div", { class: "stage" });
    this.main.replaceChildren(
      el("h1", {}, this.scan.name, this.mode === "reading" ? ` – reading by ${this.own.reader}` : ""),
      this.mode === "review" ? el("p", { class: "confidence" }, el("strong", {}, this.scan.verdict), " ", this.scan.confidence) : el("p", { class: "note" }, this.mode === "reading" ? "Blinded reading: draw the lesion mask, then submit it. You see neither the other reader's mask nor, if it is hidden, the automatic one." : "This scan is being read twice. Its result is hidden until both readings are submitted."),
      ...(this.mode === "review" ? this.scan.warnings.map((text) => el("p", { class: "warning" }, el("strong", {}, "Check: "), sentence(text))) : []),
      el("div", { class: "work" }, this.frame, this.panel),
    );
    await this.openImages();
    this.fillPanel();
    document.addEventListener("keydown", this.key);
  }

  async openImages() {
    const hidden = this.mode !== "review";
    const names = hidden ? ["dwi", "b0", "adc"] : ["dwi", "b0", "adc", "probability"];
    this.frame.replaceChildren(el("p", { class: "note" }, "Loading the images…"));
    this.viewer = new Viewer(this.id, names, (voxel) => this.moved(voxel));
    try {
      // In the page before the images are loaded: a canvas needs a size.
      this.frame.append(this.viewer.element);
      await this.viewer.open();
    } catch (error) {
      const answer = await fetch("/static/niivue.js", { method: "HEAD" }).catch(() => null);
      const text = answer?.status === 404 ? (await call("/static/niivue.js").catch((reason) => reason)).message : `The images cannot be shown: ${error.message}`;
      this.frame.replaceChildren(el("p", { class: "warning", role: "alert" }, text));
      this.viewer.close();
      this.viewer = null;
      return;
    }
    let version = "reading";
    if (this.mode === "review") {
      const mask = await call(`/api/scans/${this.id}/mask`);
      version = mask.version;
      this.viewer.labels.fromFile(await unpack(mask.labels));
    } else if (!this.scan.double_reading.hide_automatic && this.mode === "reading") {
      const mask = await call(`/api/scans/${this.id}/mask`);
      this.viewer.labels.fromFile(await unpack(mask.labels));
    }
    const draft = this.mode === "review" ? `draft-${this.id}` : `draft-${this.id}-reading-${this.own?.reader ?? ""}`;
    this.editor = new Editor(this.viewer, draft, version, () => this.drawn());
    this.tools = this.mode === "blinded" ? "" : this.editor.element;
    this.frame.replaceChildren(this.controls(names), this.tools, this.viewer.element, this.status, this.help());
    if (this.mode !== "blinded" && this.editor.restore()) say("Your unsaved changes were restored.");
    this.viewer.refresh();
    const first = this.scan.lesion_list?.[0];
    if (first) this.viewer.goMm(first.centroid_mm);
    else this.viewer.go(this.viewer.grid.dims.map((each) => Math.floor(each / 2)));
  }

  controls(names) {
    const titles = { dwi: "DWI", b0: "b0", adc: "ADC", probability: "Probability", all: "All" };
    const choice = (legend, name, values, chosen, pick) =>
      el("fieldset", { class: "pills" }, el("legend", { class: "unseen" }, legend), values.map(([value, title]) => el("label", {}, el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => pick(value) }), el("span", {}, title))));
    this.contour = el("input", { type: "checkbox", checked: true, onchange: () => this.viewer.overlay(this.contour.checked) });
    return el(
      "div",
      { class: "controls" },
      choice("Image", "image", [...names, "all"].map((name) => [name, titles[name]]), "dwi", (name) => this.viewer.show(name).catch((error) => say(error.message, true))),
      choice("Plane", "plane", PLANE_NAMES.map((name) => [name, name]), "axial", (name) => this.viewer.setPlane(name)),
      el("label", { class: "check" }, this.contour, " Overlay"),
    );
  }

  help() {
    const list = el("ul", { hidden: true }, [
      "Wheel, Page Up, Page Down: slices. Arrow keys: crosshair.",
      "Right button or Shift and drag: window and level. Ctrl and drag: pan.",
      "1 to 5: image. C: overlay. N: next lesion.",
      "V look, B brush, E eraser, G grow, D delete lesion; Space applies the tool at the crosshair; + and - change the size.",
      "Ctrl+Z undo, Ctrl+Y redo, Ctrl+S save.",
      "Radiological convention: the patient's right (R) is on the left of the image.",
    ].map((text) => el("li", {}, text)));
    return el("details", { class: "help", ontoggle: (event) => (list.hidden = !event.target.open) }, el("summary", {}, "Mouse and keyboard"), list);
  }

  moved(voxel) {
    const values = this.viewer.panes.map(({ name, nv: each }) => {
      const value = each.volumes[0].getValue(...voxel);
      return { dwi: `DWI ${value.toFixed(0)}`, b0: `b0 ${value.toFixed(0)}`, adc: `ADC ${(value * 1e6).toFixed(0)} × 10⁻⁶ mm²/s`, probability: `probability ${value.toFixed(2)}` }[name];
    });
    this.status.value = `Slice ${voxel[2] + 1} of ${this.viewer.grid.dims[2]}. ${values.join(", ")}`;
    this.editor?.moved(voxel);
  }

  drawn() {
    if (this.volume) this.volume.value = `${ml(this.viewer.labels.volumeMl())}${this.editor.changed ? " (not saved)" : ""}`;
    if (this.saveButton) this.saveButton.disabled = !this.editor.changed;
  }

  fillPanel() {
    const { scan } = this;
    const parts = [];
    this.saveButton = this.discardButton = this.volume = null;
    if (this.viewer && this.mode !== "blinded") {
      this.volume = el("output", {});
      this.saveButton = el("button", { class: "main", disabled: true, onclick: () => this.save() }, "Save and measure…");
      const submit = el("button", { class: "main", onclick: () => this.submit() }, "Submit the reading…");
      parts.push(el("section", { "aria-labelledby": "mask-title" }, el("h2", { id: "mask-title" }, "Mask"), el("p", {}, "Volume ", this.volume), el("p", { class: "buttons" }, this.mode === "review" ? this.saveButton : submit, el("button", { onclick: () => this.discard() }, "Discard changes"))));
    }
    if (this.mode === "review") {
      parts.push(this.lesions(), this.audit());
    }
    parts.push(readingPanel(this));
    if (this.mode === "review") parts.push(this.downloads());
    this.panel.replaceChildren(...parts);
    if (this.viewer && this.mode !== "blinded") this.drawn();
  }

  lesions() {
    const rows = this.scan.lesion_list.map((lesion) =>
      el("li", {}, el("button", { class: "lesion", disabled: !this.viewer, onclick: () => this.viewer.goMm(lesion.centroid_mm) }, `${lesion.label}: ${ml(lesion.volume_ml)}, ${lesion.territory || lesion.side}`, lesion.probability === null ? "" : `, ${chance(lesion.probability)}`)),
    );
    return el("section", { "aria-labelledby": "lesions-title" }, el("h2", { id: "lesions-title" }, "Lesions"), rows.length ? el("ol", { class: "plain" }, rows) : el("p", { class: "note" }, "No lesion."));
  }

  audit() {
    const { corrections } = this.scan;
    if (!corrections.length) return el("section", { "aria-labelledby": "audit-title" }, el("h2", { id: "audit-title" }, "Audit trail"), el("p", { class: "note" }, "The mask is as the method made it."));
    return el(
      "section",
      { "aria-labelledby": "audit-title" },
      el("h2", { id: "audit-title" }, "Audit trail"),
      el("ol", { class: "audit" }, corrections.map((each) => el("li", {}, el("strong", {}, each.by || "unnamed"), `, ${each.date_utc.replace("T", " ").slice(0, 16)} UTC: ${ml(each.ml_before)} to ${ml(each.ml_after)}. `, sentence(each.reason || "no reason given")))),
      el("p", {}, el("button", { disabled: !this.viewer, onclick: () => this.original() }, "Load the automatic mask")),
    );
  }

  downloads() {
    const file = (name, text) => this.scan.files.includes(name) && el("li", {}, el("a", { href: `/api/scans/${this.id}/files/${name}`, download: "" }, text));
    return el(
      "section",
      { "aria-labelledby": "files-title" },
      el("h2", { id: "files-title" }, "Report and files"),
      el("ul", { class: "plain" }, el("li", {}, el("a", { href: `/api/scans/${this.id}/report`, target: "_blank", rel: "noopener" }, "Open the report")), el("li", {}, el("a", { href: `/api/scans/${this.id}/result.zip`, download: "" }, "Result folder (zip)")), file("lesion_mask.nii.gz", "Lesion mask (NIfTI)"), file("lesion_mask_automatic.nii.gz", "Automatic mask (NIfTI)"), file("dicom/segmentation.dcm", "DICOM SEG"), file("dicom_automatic/segmentation.dcm", "DICOM SEG of the automatic mask"), file("audit.tsv", "Audit trail (TSV)")),
    );
  }

  async original() {
    const mask = await call(`/api/scans/${this.id}/mask?which=automatic`);
    this.replace(await unpack(mask.labels));
    say("The automatic mask is loaded. Save it to make it the result again, or undo.");
  }

  // Replaces the whole mask as one step that can be undone.
  replace(voxels) {
    const { labels } = this.viewer;
    labels.begin();
    for (const [index, own] of labels.pairs()) labels.set(index, voxels[own] ? 1 : 0);
    this.editor.after(labels.end());
  }

  async discard() {
    if (!(await ask("Discard the changes", [], "Discard", "All changes since the last save are lost."))) return;
    this.editor.forget();
    await this.reload();
    say("Your changes were discarded.");
  }

  async save() {
    if (this.editor.locked) {
      say("End the comparison of the two masks first.", true);
      return;
    }
    const values = await ask("Save and measure again", [{ name: "by", label: "Your name or initials", value: remember("by") }, { name: "reason", label: "Reason for the correction", type: "long" }], "Save", "The old mask is kept, and the change is recorded in the audit trail.");
    if (!values) return;
    remember("by", values.by);
    say("Measuring the corrected mask…");
    try {
      const labels = await pack(this.viewer.labels.toFile());
      const { correction } = await send(`/api/scans/${this.id}/mask`, "PUT", { labels, version: this.editor.version, ...values });
      this.editor.forget();
      await this.reload();
      say(`Saved: ${ml(correction.ml_before)} before, ${ml(correction.ml_after)} after. The report is updated.`);
    } catch (error) {
      say(error.message, true);
    }
  }

  async submit() {
    const agreed = await ask("Submit the reading", [], "Submit", "A submitted mask can no longer be changed.");
    if (!agreed) return;
    try {
      const labels = await pack(this.viewer.labels.toFile());
      await send(`/api/scans/${this.id}/reading`, "PUT", { labels, key: this.own.key });
      this.editor.forget();
      await this.reload();
      say("Your reading is submitted.");
    } catch (error) {
      say(error.message, true);
    }
  }

  async reload() {
    this.close();
    await this.open();
  }

  key(event) {
    if (!this.viewer || event.altKey || document.querySelector("dialog[open]")) return;
    const { target } = event;
    const typing = target.matches?.("input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select");
    if (typing) return;
    if (this.handle(event, target)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  handle(event, target) {
    const key = event.key;
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "s") {
      if (this.saveButton && !this.saveButton.disabled) this.save();
      return true;
    }
    const control = target.matches?.("button, a, input, summary");
    const arrows = { ArrowLeft: [0, 1], ArrowRight: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1] };
    if (key in arrows && !target.matches?.("input")) {
      this.viewer.step(...arrows[key]);
      return true;
    }
    if (key === "PageUp" || key === "PageDown") {
      this.viewer.step(2, key === "PageUp" ? 1 : -1);
      return true;
    }
    if ((key === " " || key === "Enter") && control) return false;
    const names = [...this.viewer.names, "all"];
    if (/^[1-5]$/.test(key) && names[key - 1]) {
      this.frame.querySelector(`input[name=image][value=${names[key - 1]}]`).click();
      return true;
    }
    if (key.toLowerCase() === "c" && !event.ctrlKey && !event.metaKey) {
      this.contour.click();
      return true;
    }
    if (key.toLowerCase() === "n" && this.scan.lesion_list?.length) {
      this.next = ((this.next ?? 0) + 1) % this.scan.lesion_list.length;
      this.viewer.goMm(this.scan.lesion_list[this.next].centroid_mm);
      return true;
    }
    return this.mode !== "blinded" && this.editor.key(event);
  }

  update(rows) {
    const row = rows.find((each) => each.id === this.id);
    const text = JSON.stringify([row?.version, row?.reading, row?.state]);
    if (this.rows && text !== this.rows && this.scan && row) this.outdated(row);
    this.rows = text;
  }

  async outdated(row) {
    if (this.scan.state !== "done" && row.state === "done") {
      await this.reload();
      return;
    }
    if (row.version && this.editor && row.version !== this.editor.version && this.mode === "review") say("This scan was changed elsewhere. Reload the page to see the new mask.");
  }

  close() {
    document.removeEventListener("keydown", this.key);
    this.editor?.close();
    this.viewer?.close();
    this.viewer = this.editor = this.kept = null;
  }
}
