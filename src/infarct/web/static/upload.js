// Dropping files: collects files and folders, uploads them with progress, and shows the checks.
import { el, remember, say, sentence } from "/static/dom.js";

const ROLES = { dwi: "DWI", b0: "b0", adc: "ADC map", brain: "brain mask", bval: "b-values", ignore: "leave out" };
const IMAGE = /\.(nii|nii\.gz|mha|nrrd|bval|bvals)$/i;

async function filesBelow(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: path + file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader hands out at most 100 entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const each of some) found.push(...(await filesBelow(each, `${path}${entry.name}/`)));
  }
  return found;
}

export class Upload {
  constructor(models) {
    this.model = el("select", { id: "model" }, models.map((name) => el("option", { value: name, selected: name === remember("model") }, name)));
    this.model.addEventListener("change", () => remember("model", this.model.value));
    this.name = el("input", { id: "name", maxLength: 64, placeholder: "scan-001, scan-002, …", autocomplete: "off" });
    this.status = el("div", { class: "upload-status", "aria-live": "polite" });
    const files = el("input", { type: "file", multiple: true, id: "files", class: "unseen", onchange: () => this.take(this.listed(files)) });
    const folder = el("input", { type: "file", webkitdirectory: true, id: "folder", class: "unseen", onchange: () => this.take(this.listed(folder)) });
    this.element = el(
      "section",
      { class: "drop", "aria-labelledby": "drop-title" },
      el("h2", { id: "drop-title" }, "Add a scan"),
      el("p", {}, "Drop the DWI with its b0 or ADC map (NIfTI), a 4D series with its .bval file, a DICOM folder, or a zip of these here."),
      el("p", { class: "buttons" }, files, el("label", { htmlFor: "files", class: "button main" }, "Choose files"), folder, el("label", { htmlFor: "folder", class: "button" }, "Choose a folder")),
      el("p", { class: "options" }, el("label", {}, "Model ", this.model), el("label", {}, "Name (optional) ", this.name)),
      this.status,
    );
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.element.addEventListener(kind, (event) => {
        event.preventDefault();
        this.element.classList.toggle("over", kind === "dragover");
        if (kind === "drop") this.dropped(event.dataTransfer);
      });
    }
  }

  listed(input) {
    const found = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    input.value = "";
    return found;
  }

  async dropped(data) {
    const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = entries.length ? (await Promise.all(entries.map((entry) => filesBelow(entry)))).flat() : [...data.files].map((file) => ({ file, name: file.name }));
    await this.take(found);
  }

  async take(found, roles = null) {
    if (!found.length) return;
    const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload" });
    const text = el("span", {}, `Uploading ${found.length === 1 ? "1 file" : `${found.length} files`}…`);
    const request = new XMLHttpRequest();
    this.status.replaceChildren(el("p", {}, text, " ", bar, " ", el("button", { onclick: () => request.abort() }, "Cancel")));
    const form = new FormData();
    form.append("model", this.model.value);
    form.append("name", this.name.value.trim());
    if (roles) form.append("roles", JSON.stringify(roles));
    for (const { file, name } of found) form.append("files", file, name);
    request.open("POST", "/api/scans");
    request.responseType = "json";
    request.upload.onprogress = (event) => (bar.value = event.total ? event.loaded / event.total : 0);
    request.upload.onload = () => {
      text.textContent = "Checking the images…";
      bar.removeAttribute("value");
    };
    request.onabort = () => this.status.replaceChildren(el("p", {}, "The upload was cancelled; nothing was stored."));
    request.onerror = () => this.refused("The upload was interrupted. Is `infarct serve` still running?", found);
    request.onload = () => {
      if (request.status === 201) this.accepted(request.response);
      else this.refused(request.response?.error || `The server answered with status ${request.status}.`, found);
    };
    request.send(form);
  }

  accepted({ name, findings, preview }) {
    this.name.value = "";
    const warnings = findings.filter((each) => each.level === "warning");
    const notes = findings.filter((each) => each.level !== "warning");
    this.status.replaceChildren(
      el("p", {}, el("strong", {}, `${name} is accepted.`), warnings.length ? " Please check:" : " The input checks found no problem."),
      el("img", { class: "preview", src: `data:image/png;base64,${preview}`, alt: "Five axial slices of the DWI" }),
      warnings.map((each) => el("p", { class: "warning" }, el("strong", {}, "Check: "), sentence(each.message))),
      notes.length ? el("details", {}, el("summary", {}, `Notes (${notes.length})`), el("ul", {}, notes.map((each) => el("li", {}, sentence(each.message))))) : "",
    );
    say("");
  }

  refused(message, found) {
    this.status.replaceChildren(el("div", { class: "refused", role: "alert" }, el("p", {}, el("strong", {}, "This scan was not accepted. "), sentence(message))));
    const images = found.filter(({ name }) => IMAGE.test(name));
    if (images.length && images.length <= 20 && /role of each file/.test(message)) this.status.append(this.chooser(found, images));
  }

  // Lets the user say what each file is, if the names do not.
  chooser(found, images) {
    const selects = images.map(({ name }, n) => {
      const select = el("select", { id: `role-${n}` }, el("option", { value: "ignore" }, "choose…"), Object.entries(ROLES).map(([value, label]) => el("option", { value }, label)));
      return { name, select };
    });
    return el(
      "form",
      {
        class: "roles",
        onsubmit: (event) => {
          event.preventDefault();
          this.take(found, Object.fromEntries(selects.map(({ name, select }) => [name, select.value])));
        },
      },
      selects.map(({ name, select }) => el("p", {}, el("label", { htmlFor: select.id }, name), " ", select)),
      el("button", { class: "main" }, "Upload with these roles"),
    );
  }
}
