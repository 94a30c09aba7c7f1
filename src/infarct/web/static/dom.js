// Small helpers: elements, requests to the server, and messages to the user.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && name !== "list" && name !== "form") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function say(text, bad = false) {
  const box = document.getElementById("message");
  box.textContent = text;
  box.className = bad ? "bad" : "";
  box.hidden = !text;
}

export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refusal("The server does not answer. Is `infarct serve` still running?", 0);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const body = await response.json().catch(() => ({}));
  throw new Refusal(body.error || `The server answered with status ${response.status}.`, response.status);
}

export function send(path, method, body) {
  return call(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

// A message of the command line as a sentence, without the names of options.
export const sentence = (text) => {
  const plain = text.replace(/ \(--[\w-]+\)/g, "");
  const full = plain.charAt(0).toUpperCase() + plain.slice(1);
  return /[.?!]$/.test(full) ? full : `${full}.`;
};

export const remember = (name, value) => {
  try {
    if (value === undefined) return localStorage.getItem(`infarct-${name}`);
    if (value === null) localStorage.removeItem(`infarct-${name}`);
    else localStorage.setItem(`infarct-${name}`, value);
  } catch {
    // Without storage the page works, but forgets drafts when it is reloaded.
  }
  return null;
};

// Opens a dialog with a form, and resolves with its values, or null if it is cancelled.
export function ask(title, fields, action, text = "") {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => {
      const id = `ask-${field.name}`;
      const input = field.type === "checkbox"
        ? el("input", { id, type: "checkbox", checked: field.value })
        : el(field.type === "long" ? "textarea" : "input", { id, value: field.value || "", required: true, maxLength: 500, rows: 2 });
      return { field, input, row: el("p", { class: field.type === "checkbox" ? "tick" : "" }, el("label", { htmlFor: id }, field.label), input) };
    });
    const dialog = el("dialog", { "aria-labelledby": "ask-title" });
    const finish = (values) => {
      dialog.close();
      dialog.remove();
      resolve(values);
    };
    const form = el(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          finish(Object.fromEntries(inputs.map(({ field, input }) => [field.name, field.type === "checkbox" ? input.checked : input.value])));
        },
      },
      el("h2", { id: "ask-title" }, title),
      text && el("p", {}, text),
      inputs.map(({ row }) => row),
      el("p", { class: "buttons" }, el("button", { class: "main" }, action), el("button", { type: "button", onclick: () => finish(null) }, "Cancel")),
    );
    dialog.append(form);
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      finish(null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
