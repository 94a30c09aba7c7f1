// Chooses the page by the address, and passes it the events of the server.
import { el, say } from "/static/dom.js";
import { readingsPage } from "/static/reading.js";
import { scanPage } from "/static/scan.js";
import { worklistPage } from "/static/worklist.js";

const main = document.getElementById("content");
let page = null;
let rows = null;
let turn = 0;

async function open() {
  const mine = ++turn;
  page?.close();
  page = null;
  say("");
  const [, kind, id] = location.hash.split("/");
  try {
    const opened = kind === "scan" ? await scanPage(main, id) : kind === "readings" ? await readingsPage(main) : await worklistPage(main);
    if (mine !== turn) {
      opened.close();
      return;
    }
    page = opened;
    if (rows) page.update(rows);
  } catch (error) {
    main.replaceChildren(el("h1", {}, "This page cannot be shown"), el("p", { class: "warning", role: "alert" }, error.message));
  }
  document.title = `${main.querySelector("h1")?.textContent || "Worklist"} – infarct`;
}

function listen() {
  const events = new EventSource("/api/events");
  let lost = false;
  events.addEventListener("worklist", (event) => {
    rows = JSON.parse(event.data);
    page?.update(rows);
    if (lost) say("The server is back.");
    lost = false;
  });
  events.onerror = () => {
    lost = true;
    say("The connection to the server is lost; waiting for it. Drafts are kept in this browser.", true);
  };
}

window.addEventListener("hashchange", () => {
  open();
  main.focus();
});
listen();
open();
