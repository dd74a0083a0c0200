// Shows the machines of /events: all of them first, then those that change. Whatever machines
// say of themselves is put in as text, never as HTML.
"use strict";

const ORDER = ["failed", "held", "waiting", "installing", "ordered", "expected", "done"];
const machines = new Map();
const items = new Map();
let offset = 0; // of the server's clock to ours, in seconds

function element(kind, name) {
  const made = document.createElement(kind);
  made.className = name;
  return made;
}

function age(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function size(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function facts(one, now) {
  const found = [one.profile, one.profile && one.channel, one.version, one.disk, one.address];
  if (!one.profile) found.push(one.serial && `serial ${one.serial}`, one.uuid, ...one.macs);
  const over = one.ended || now;
  if (one.started && one.profile) found.push(`${one.ended ? "took" : "for"} ${age(over - one.started)}`);
  if (one.seen) found.push(`seen ${age(now - one.seen)} ago`);
  return found.filter(Boolean).join(" · ");
}

function build() {
  const item = element("li", "");
  for (const name of ["name", "state", "phase", "facts", "why"]) item.append(element("div", name));
  const phase = item.querySelector(".phase");
  phase.append(element("span", "n"), document.createElement("progress"));
  return item;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function draw(item, one, now) {
  item.className = `${one.state}${one.silent ? " silent" : ""}`;
  item.dataset.name = one.name;
  put(item.querySelector(".name"), one.name);
  put(item.querySelector(".state"), one.silent ? "silent" : one.state);
  const bar = item.querySelector("progress");
  const runs = one.state === "installing" || one.state === "ordered" || one.phase === "boot";
  const percent = one.percent === null ? "" : ` ${one.percent} %`;
  const rate = one.rate ? `, ${size(one.rate)}/s` : "";
  put(item.querySelector(".phase .n"), runs || one.state === "failed" ? `${one.phase}${percent}${rate}` : "");
  bar.hidden = one.percent === null;
  bar.max = 100;
  bar.value = one.percent ?? 0;
  bar.setAttribute("aria-label", `${one.name}: ${one.phase}`);
  put(item.querySelector(".facts"), facts(one, now));
  put(item.querySelector(".why"), one.why);
}

function counts() {
  const line = document.getElementById("counts");
  line.replaceChildren();
  for (const state of ORDER) {
    const count = [...machines.values()].filter((one) => one.state === state).length;
    if (!count) continue;
    const word = document.createElement("span");
    const number = document.createElement("b");
    number.textContent = count;
    word.append(number, ` ${state}`);
    line.append(word);
  }
}

function redraw() {
  const now = Date.now() / 1000 + offset;
  const list = document.getElementById("machines");
  const sorted = [...machines.values()].sort((a, b) =>
    ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.name < b.name ? -1 : 1));
  sorted.forEach((one, at) => {
    let item = items.get(one.name);
    if (!item) items.set(one.name, item = build());
    draw(item, one, now);
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] || null);
  });
  document.getElementById("none").hidden = machines.size > 0;
}

function take(told, whole) {
  if (whole) {
    machines.clear();
    for (const item of items.values()) item.remove();
    items.clear();
  }
  offset = told.now - Date.now() / 1000;
  for (const one of told.nodes) machines.set(one.name, one);
  for (const name of told.gone) {
    machines.delete(name);
    items.get(name)?.remove();
    items.delete(name);
  }
  counts();
  redraw();
}

function follow() {
  const link = document.getElementById("link");
  const events = new EventSource("/events");
  let whole = true;
  events.onopen = () => { whole = true; link.className = "soft"; link.textContent = "live"; };
  events.onerror = () => {
    link.className = "lost";
    link.textContent = "no connection: what is shown may be old";
    // After an answer that is an error (nginx is up, the rest is not) a browser gives up.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  };
  events.onmessage = (event) => { take(JSON.parse(event.data), whole); whole = false; };
}

follow();
setInterval(redraw, 5000);
