// Refreshes the parts of the page. Without this file the page shows the same, as it was when it was loaded.
const KEY = "uqueue-key";
const SECONDS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 10 : 2;
const byId = (id) => document.getElementById(id);
const ask = byId("ask");
const shown = new Map();
let timer = 0;
let paused = false;

function say(text) {
  if (byId("said").textContent !== text) byId("said").textContent = text;
}

function show(parts) {
  for (const [name, html] of Object.entries(parts)) {
    if (shown.get(name) === html) continue;
    const place = document.querySelector(`[data-part="${name}"]`);
    if (place) place.innerHTML = html; // the gateway escapes what it puts in
    shown.set(name, html);
  }
  byId("data").hidden = false;
  byId("pause").hidden = false;
}

function askForKey(text) {
  sessionStorage.removeItem(KEY);
  byId("data").hidden = true;
  for (const id of ["pause", "forget"]) byId(id).hidden = true;
  for (const place of document.querySelectorAll("[data-part]")) place.replaceChildren();
  shown.clear();
  ask.hidden = false;
  say(text);
}

async function refresh() {
  clearTimeout(timer);
  const key = sessionStorage.getItem(KEY);
  if (ask && !key && !shown.size && byId("data").hidden) return askForKey("");
  try {
    const headers = key ? { "X-API-Key": key } : {};
    const answer = await fetch("page/parts", { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (ask && answer.status === 401) return askForKey(key ? "That key is not one of this gateway's." : "");
    if (ask && answer.status === 403) return askForKey("That key lacks the scope read.");
    if (!answer.ok) throw new Error(answer.statusText);
    const parts = await answer.json();
    if (paused) return;
    show(parts);
    if (ask) {
      ask.hidden = true;
      byId("forget").hidden = !key;
    }
    say("");
  } catch {
    say("The gateway does not answer; this is what it said last.");
  }
  if (!paused) timer = setTimeout(refresh, SECONDS * 1000);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  clearTimeout(timer);
  if (!paused) refresh();
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !paused) refresh();
});

byId("forget").addEventListener("click", () => {
  clearTimeout(timer);
  askForKey("");
  byId("key").focus();
});

ask?.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  refresh();
});

if (byId("data").hidden) refresh();
else {
  byId("pause").hidden = false;
  timer = setTimeout(refresh, SECONDS * 1000);
}
