// Tools that change the mask in a viewer: brush, eraser, growing, deleting, undo and redo.
import { el, remember } from "/static/dom.js";

const TOOLS = {
  look: ["Look", "V", "Click to move the crosshair"],
  brush: ["Brush", "B", "Draw in the current plane"],
  eraser: ["Eraser", "E", "Erase in the current plane"],
  grow: ["Grow", "G", "Click: add the connected region of similar signal"],
  remove: ["Delete lesion", "D", "Click a lesion to delete it"],
};

export class Editor {
  // `draft` names the draft that survives a reload; `onchange` is called after every change.
  constructor(viewer, draft, version, onchange) {
    this.viewer = viewer;
    this.draft = draft;
    this.version = version;
    this.onchange = onchange;
    this.tool = "look";
    this.pressed = false;
    this.last = null;
    this.changed = false;
    this.locked = false; // while two masks are compared
    this.size = el("input", { type: "range", id: "size", min: 1, max: 20, value: 4, oninput: () => (sizeText.value = `${this.size.value} mm`) });
    const sizeText = el("output", { htmlFor: "size" }, "4 mm");
    this.tolerance = el("input", { type: "range", id: "tolerance", min: 2, max: 60, value: 20, oninput: () => (toleranceText.value = `${this.tolerance.value}%`) });
    const toleranceText = el("output", { htmlFor: "tolerance" }, "20%");
    this.buttons = Object.entries(TOOLS).map(([name, [title, key, hint]]) =>
      el("button", { type: "button", title: `${hint} (${key})`, "aria-pressed": String(name === "look"), onclick: () => this.choose(name), "data-tool": name }, title),
    );
    this.undoButton = el("button", { type: "button", title: "Undo (Ctrl+Z)", disabled: true, onclick: () => this.undo() }, "Undo");
    this.redoButton = el("button", { type: "button", title: "Redo (Ctrl+Y)", disabled: true, onclick: () => this.redo() }, "Redo");
    this.element = el(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "Edit the mask" },
      el("div", { class: "group" }, this.buttons),
      el("div", { class: "group" }, el("label", { htmlFor: "size" }, "Size"), this.size, sizeText),
      el("div", { class: "group" }, el("label", { htmlFor: "tolerance" }, "Growing tolerance"), this.tolerance, toleranceText),
      el("div", { class: "group" }, this.undoButton, this.redoButton),
    );
    // Before the viewer moves the crosshair.
    viewer.element.addEventListener("pointerdown", (event) => this.press(event), true);
    this.release = this.release.bind(this);
    window.addEventListener("pointerup", this.release);
    window.addEventListener("pointercancel", this.release);
  }

  choose(tool) {
    this.tool = tool;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    this.viewer.element.dataset.tool = tool;
    // So that Space applies the tool and does not press its button again.
    this.viewer.element.focus({ preventScroll: true });
  }

  press(event) {
    if (this.locked || event.button !== 0 || event.shiftKey || event.ctrlKey || this.tool === "look") return;
    this.pressed = true;
    this.last = null;
    if (this.painting()) this.viewer.labels.begin();
  }

  painting() {
    return this.tool === "brush" || this.tool === "eraser";
  }

  // Called by the viewer whenever the crosshair moves.
  moved(voxel) {
    if (!this.pressed) return;
    if (!this.painting()) {
      this.pressed = false;
      this.click(voxel);
      return;
    }
    this.paint(voxel);
  }

  paint(voxel) {
    const value = this.tool === "brush" ? 1 : 0;
    this.viewer.labels.line(this.last ?? voxel, voxel, this.viewer.axis(), Number(this.size.value) / 2, value);
    this.last = voxel;
    this.viewer.overlay(true);
  }

  release() {
    if (!this.pressed) return;
    this.pressed = false;
    this.after(this.painting() && this.viewer.labels.end());
  }

  // The same at the crosshair, for the keyboard.
  apply() {
    if (this.locked) return;
    const voxel = this.viewer.voxel();
    if (this.painting()) {
      this.viewer.labels.begin();
      this.last = null;
      this.paint(voxel);
      this.after(this.viewer.labels.end());
    } else this.click(voxel);
  }

  click(voxel) {
    const { labels } = this.viewer;
    if (this.tool === "grow") this.after(labels.grow(voxel, this.viewer.signal(), Number(this.tolerance.value) / 100, 30));
    if (this.tool === "remove") this.after(labels.remove(voxel));
  }

  undo() {
    if (!this.locked) this.after(this.viewer.labels.undo());
  }

  redo() {
    if (!this.locked) this.after(this.viewer.labels.redo());
  }

  after(changed) {
    const { labels } = this.viewer;
    this.undoButton.disabled = !labels.past.length;
    this.redoButton.disabled = !labels.future.length;
    if (!changed) return;
    this.changed = true;
    this.viewer.overlay(true);
    remember(this.draft, JSON.stringify({ version: this.version, mask: labels.toText() }));
    this.onchange();
  }

  // Restores the draft of this mask; returns whether there was one.
  restore() {
    const stored = remember(this.draft);
    if (!stored) return false;
    const { version, mask } = JSON.parse(stored);
    if (version !== this.version) {
      // It belongs to an earlier mask: kept under another name, so that nothing is lost.
      remember(`${this.draft}-earlier`, stored);
      remember(this.draft, null);
      return false;
    }
    this.viewer.labels.fromText(mask);
    this.changed = true;
    this.viewer.refresh();
    this.onchange();
    return true;
  }

  forget() {
    remember(this.draft, null);
    this.changed = false;
  }

  key(event) {
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") event.shiftKey ? this.redo() : this.undo();
      else if (key === "y") this.redo();
      else return false;
      return true;
    }
    const tool = Object.entries(TOOLS).find(([, [, letter]]) => letter.toLowerCase() === key);
    if (tool) this.choose(tool[0]);
    else if (key === " " || key === "enter") this.apply();
    else if (key === "+" || key === "-") {
      this.size.value = Number(this.size.value) + (key === "+" ? 1 : -1);
      this.size.dispatchEvent(new Event("input"));
    } else return false;
    return true;
  }

  close() {
    window.removeEventListener("pointerup", this.release);
    window.removeEventListener("pointercancel", this.release);
  }
}
