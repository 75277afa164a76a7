"use strict";
const at = (id) => document.getElementById(id);
const PREFIX = "/__admin";
const BATCH = 1000; // exchanges, as the server's journal
const KEPT = 10000; // exchanges that the page remembers, also when the server has forgotten them
const CHUNK = 100; // rows of the journal
const ROW = 2.1; // rem; how high one is
const SHOWN = 60; // predictions
const OUTCOME = { succeeded: "good", failed: "bad", canceled: "bad", aborted: "bad" };

// What the page shows is in its URL, so that a log can link to it: a tenant's handle, never its token.
const view = { tenant: "", prediction: "", exchange: "", show: "", operation: "", status: "", q: "" };
const known = { exchanges: [], predictions: [], deliveries: [], tenants: [], scenarios: [], scenario: {}, clock: {}, verdict: null, life: null };
const pictures = new Map(); // object URLs, by prediction
let watching = null; // ends the stream of changes
let loading = null;
let again = false;

// Everything a client sent is shown as text, never as markup.
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child || child === 0));
  return node;
}

// ---- talking to the server ----

function headers() {
  const sent = {};
  if (at("token").value) sent.Authorization = "Bearer " + at("token").value;
  else if (view.tenant) sent["X-Mock-Tenant"] = view.tenant;
  if (at("admin").value) sent["X-Mock-Admin-Token"] = at("admin").value;
  return sent;
}

async function ask(method, path, value) {
  const response = await fetch(PREFIX + path, { method, headers: headers(), body: value === undefined ? undefined : JSON.stringify(value) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

/** Show an error, or clear the one of the same source: loading succeeds soon after an order was refused. */
let complaining = "";
function complain(error, source = "loading") {
  if (!error && complaining !== source) return;
  complaining = error ? source : "";
  at("trouble").textContent = error ? error.message : "";
  at("trouble").hidden = !error;
}

/** Load what there is; what changes meanwhile is loaded right after. */
function load() {
  if (loading) {
    again = true;
    return loading;
  }
  loading = (async () => {
    do {
      again = false;
      try {
        await loadOnce();
        complain(null);
      } catch (error) {
        complain(error);
      }
      render();
    } while (again);
    loading = null;
  })();
  return loading;
}

async function loadOnce() {
  const last = known.exchanges.at(-1)?.number ?? 0;
  const [tenants, scenario, clock, verdict, predictions, webhooks, journal] = await Promise.all(
    ["/tenants", "/scenario", "/clock", "/verdict", `/predictions?limit=${SHOWN}`, "/webhooks", `/requests?since=${last}&limit=${BATCH}`].map((path) => ask("GET", path)));
  if (journal.recorded < last) { // it was reset
    known.exchanges = [];
    again = true;
  } else {
    known.exchanges = [...known.exchanges, ...journal.requests].slice(-KEPT);
  }
  Object.assign(known, { tenants: tenants.tenants, scenario, clock, verdict, predictions: predictions.predictions, deliveries: webhooks.deliveries });
  if (!view.tenant) remember({ tenant: tenants.current }, true);
  known.life = view.prediction ? await ask("GET", `/predictions/${view.prediction}`).catch(() => null) : null;
}

/** Follow the stream of changes until another tenant is looked at. */
async function watch() {
  watching?.abort();
  const ended = (watching = new AbortController());
  while (!ended.signal.aborted) {
    try {
      const response = await fetch(PREFIX + "/events", { headers: headers(), signal: ended.signal });
      if (!response.ok) throw new Error((await response.json()).detail);
      at("live").className = "dot on";
      at("live").title = "live";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      while (true) {
        const { done } = await reader.read();
        if (done) break;
        await load();
      }
    } catch (error) {
      if (ended.signal.aborted) return;
      if (!(error instanceof TypeError)) complain(error);
    }
    at("live").className = "dot";
    at("live").title = "not connected";
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function steer(method, path, value) {
  try {
    await ask(method, path, value);
    complain(null, "steering");
    await load();
  } catch (error) {
    complain(error, "steering");
  }
}

// ---- the URL ----

function remember(changes, quietly = false) {
  Object.assign(view, changes);
  const words = new URLSearchParams(Object.entries(view).filter(([, value]) => value));
  history[quietly ? "replaceState" : "pushState"](null, "", "#" + words);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const before = view.tenant;
  for (const name of Object.keys(view)) view[name] = words.get(name) ?? "";
  at("search").value = view.q;
  at("show").value = view.show;
  if (view.tenant !== before) lookAt(view.tenant);
  else load();
}

function lookAt(handle) {
  at("token").value = "";
  begin({ tenant: handle });
}

function begin(changes) {
  known.exchanges = [];
  remember(changes, true);
  render();
  watch();
}

// ---- what is shown ----

function render() {
  renderTenants();
  renderSteering();
  renderVerdict();
  renderPredictions();
  renderLife();
  renderJournal();
  document.body.dataset.loaded = Number(document.body.dataset.loaded || 0) + 1;
}

function renderTenants() {
  at("tenants").replaceChildren(...known.tenants.map((item) => {
    const wrong = item.violating_exchanges + item.unmatched_exchanges;
    const link = make("a", { href: "#tenant=" + item.handle, "aria-current": item.handle === view.tenant && "true" },
      make("span", { class: wrong ? "bad" : "good", title: wrong ? `${wrong} exchanges were wrong` : "nothing was wrong" }, wrong ? "✗" : "✓"),
      make("span", {}, item.tenant), make("span", { class: "muted" }, String(item.exchanges)));
    return link;
  }));
}

function renderSteering() {
  const names = known.scenarios.includes(known.scenario.name) ? known.scenarios : [...known.scenarios, known.scenario.name ?? ""];
  fill(at("scenario"), names);
  at("scenario").value = known.scenario.name ?? "";
  if (known.clock.mode) at("clock").value = known.clock.mode;
  at("now").textContent = (known.clock.now ?? "").replace("T", " ").replace(/\.\d+Z$/, "");
}

const EMPTY = { operation: "every operation", status: "every status", scenario: "(without a name)" };

function fill(select, values) {
  const there = [...select.options].map((option) => option.value);
  if (JSON.stringify(there) !== JSON.stringify(values)) select.replaceChildren(...values.map((value) => make("option", { value }, value || EMPTY[select.id])));
}

function renderVerdict() {
  const verdict = known.verdict;
  if (!verdict) return;
  at("verdict").className = "badge " + (verdict.ok ? "good" : "bad");
  const counts = [[verdict.exchanges, "exchanges"], [verdict.violating_exchanges, "with violations"], [verdict.unmatched_exchanges, "unknown paths"]];
  at("verdict").textContent = `verdict: ${verdict.ok ? "ok" : "failed"} · ` + counts.filter(([count], place) => count || !place).map((item) => item.join(" ")).join(", ");
  at("unused").replaceChildren(...verdict.unused_faults.map((item) => make("li", {}, `never met: ${item.operation} ${plain(item.fault)}`)));
}

const plain = (value) => JSON.stringify(value, (_, part) => part ?? undefined);

function renderPredictions() {
  at("predictions-count").textContent = known.predictions.length ? `${known.predictions.length}${known.predictions.length === SHOWN ? " newest" : ""}` : "none yet";
  at("predictions").replaceChildren(...known.predictions.toReversed().map((item) => make("button",
    { type: "button", class: "prediction", "data-id": item.id, "aria-pressed": String(item.id === view.prediction), onclick: () => choose(item.id) },
    item.output ? pictureOf(item) : make("div", { class: "blank" }),
    make("div", {}, make("strong", { class: OUTCOME[item.status] }, item.status), " ", make("code", { class: "muted" }, "…" + item.id.slice(-4)),
      make("p", { class: "muted" }, item.error || item.input?.prompt || "")))));
}

function pictureOf(prediction) {
  const image = make("img", { alt: prediction.input?.prompt ?? "" });
  // Fetched here and not where clients do, so that looking leaves no trace in the journal.
  if (!pictures.has(prediction.id)) {
    pictures.set(prediction.id, fetch(`${PREFIX}/predictions/${prediction.id}/picture`, { headers: headers() })
      .then((response) => response.blob()).then((data) => URL.createObjectURL(data)));
  }
  pictures.get(prediction.id).then((url) => { image.src = url; });
  return image;
}

function choose(id) {
  remember({ prediction: view.prediction === id ? "" : id });
  load();
}

// ---- the timeline of a prediction ----

function renderLife() {
  const life = known.life;
  at("life").hidden = !life;
  if (!life) return at("life").replaceChildren();
  const events = eventsOf(life);
  const last = Math.max(life.age, ...life.stages.map((stage) => stage.at), ...events.map((event) => event.at));
  const span = last * 1.15 || 1;
  const share = (seconds) => `${Math.min(100, (100 * seconds) / span)}%`;
  const track = make("div", { class: "track" });
  life.stages.forEach((stage, place) => {
    const until = life.stages[place + 1]?.at ?? span;
    const bar = make("div", { class: `stage ${stage.status}${stage.at > life.age ? " to-come" : ""}`, title: `${stage.status} from ${stage.at} s` }, stage.status);
    bar.style.left = share(stage.at);
    bar.style.width = share(until - stage.at);
    track.append(bar);
  });
  const here = make("div", { class: "here", title: `now: ${life.age.toFixed(3)} s` });
  here.style.left = share(life.age);
  track.append(here);
  const met = new Map();
  for (const event of events) {
    const beside = met.get(event.at) ?? 0;
    met.set(event.at, beside + 1);
    const dot = make("button", { type: "button", class: "event " + event.kind, title: event.text, "aria-label": event.text, onclick: event.open });
    dot.style.left = `calc(${share(event.at)} + ${beside * 13}px)`;
    track.append(dot);
  }
  const entered = life.stages.filter((stage) => stage.at <= life.age).map((stage) => ({ at: stage.at, order: 0, text: stage.status, kind: OUTCOME[stage.status] ?? "stage-name" }));
  const story = [...entered, ...events.map((event) => ({ ...event, order: 1 }))].sort((one, other) => one.at - other.at || one.order - other.order);
  at("life").replaceChildren(
    make("div", { class: "bar" }, make("h2", {}, make("code", {}, life.prediction.id)), make("span", { class: "grow" }), nextOf(life),
      make("button", { type: "button", class: "quiet", onclick: () => choose(life.prediction.id), "aria-label": "close the timeline" }, "✕")),
    track,
    make("ol", { class: "story" }, ...story.map((event) => make("li", {}, make("span", { class: "at" }, `${event.at.toFixed(3)} s`),
      event.open ? make("a", { href: event.href, onclick: event.open }, event.text) : make("strong", { class: event.kind }, event.text)))));
}

function nextOf(life) {
  if (!life.next) return make("span", { class: "muted" }, "nothing more to come");
  const text = `${life.next.status} in ${life.next.in.toFixed(3)} s`;
  return make("button", { type: "button", id: "advance-to-next", onclick: () => steer("POST", "/clock/advance", { seconds: life.next.in }) }, `advance to ${text}`);
}

/** The exchanges and webhooks of a prediction in its own time: a status that was sent was entered by then. */
function eventsOf(life) {
  const created = Date.parse(life.prediction.created_at);
  const entered = Object.fromEntries(life.stages.map((stage) => [stage.status, stage.at]));
  const jumps = known.clock.mode === "autojump"; // then its own time stands still until somebody looks
  let last = 0;
  const place = (instant, status) => (last = jumps ? entered[status] ?? last : Math.max(0, (instant - created) / 1000, entered[status] ?? 0));
  const exchanges = known.exchanges.filter((item) => concerns(item, life.prediction.id)).map((item) => ({
    at: place(Date.parse(item.tenant_time), item.response.prediction_status),
    kind: item.fault ? "fault" : item.violations.length ? "wrong" : "",
    text: `${item.request.method} ${shortPath(item.request.path)} → ${resultOf(item)}${item.fault ? " · fault " + plain(item.fault) : ""}`,
    href: "#", open: (event) => { event.preventDefault(); open(String(item.number), true); },
  }));
  const posted = known.deliveries.filter((item) => item.prediction_id === life.prediction.id).map((item) => ({
    at: place(created, item.body.status), kind: "webhook", text: `webhook ${item.event}, attempt ${item.attempt} → ${item.status ?? item.error}` }));
  return [...exchanges, ...posted].sort((one, other) => one.at - other.at);
}

// ---- the journal ----

const shortPath = (path) => path.replace(/^\/replicate\/v1\/(models\/[^/]+\/)?/, "…/");
const concerns = (item, id) => item.prediction === id || item.request.path.includes(id);
const resultOf = (item) => [item.response.status || "no answer", item.response.prediction_status].filter(Boolean).join(" ");

const SHOW = {
  "": () => true,
  violations: (item) => item.violations.length > 0,
  unmatched: (item) => item.operation === null && item.arrived_at !== "foreign",
  faults: (item) => item.fault !== null,
  errors: (item) => !item.response.status || item.response.status >= 400,
};

function visible() {
  const words = view.q.toLowerCase();
  return known.exchanges.filter((item) => SHOW[view.show]?.(item) && (!view.operation || item.operation === view.operation) &&
    (!view.status || String(item.response.status) === view.status) &&
    (!view.prediction || concerns(item, view.prediction)) && (!words || JSON.stringify(item).toLowerCase().includes(words)));
}

function renderJournal() {
  for (const [id, word] of [["operation", (item) => item.operation], ["status", (item) => String(item.response.status || "")]]) {
    fill(at(id), ["", ...new Set([...known.exchanges.map(word), view[id]].filter(Boolean))].sort());
    at(id).value = view[id];
  }
  at("only").hidden = !view.prediction;
  at("only").textContent = `prediction …${view.prediction.slice(-4)} ✕`;
  const rows = visible();
  const focused = document.activeElement.closest("#journal [data-number]")?.dataset.number; // lost where rows are replaced
  const built = new Map([...at("journal").querySelectorAll("li")].map((row) => [row.dataset.key, row]));
  const there = new Map([...at("journal").children].map((chunk) => [chunk.dataset.key, chunk]));
  at("journal").replaceChildren(...chunksOf(rows.toReversed()).map((chunk, place) => there.get(chunk.key) ?? chunkNode(chunk, built, place)));
  if (focused) at("journal").querySelector(`[data-number="${focused}"] .row`)?.focus({ preventScroll: true });
  const all = known.exchanges.length;
  at("journal-count").textContent = rows.length === all ? String(all) : `${rows.length} of ${all}`;
  at("nothing").hidden = rows.length > 0;
  at("nothing").textContent = all ? "Nothing fits the filter." : "No requests yet. Give a client this tenant's token, and the address of this page up to the port.";
}

/** Exchanges in groups by their numbers, each with what tells whether it is as it was. */
function chunksOf(exchanges) {
  const chunks = new Map();
  for (const item of exchanges) {
    const place = Math.floor(item.number / CHUNK);
    if (!chunks.has(place)) chunks.set(place, []);
    chunks.get(place).push(item);
  }
  const { exchange, ...filter } = view;
  return [...chunks.values()].map((list) => {
    const open = list.some((item) => String(item.number) === exchange) ? exchange : "";
    return { list, open, key: JSON.stringify([filter, open, list[0].number, list.length]) };
  });
}

/** A group of rows. Thousands are not made before they are nearly in sight. */
function chunkNode({ list, open, key }, built, place) {
  const node = make("ol", { class: "chunk", "data-key": key });
  const keyOf = (item) => `${view.tenant} ${item.number}${view.exchange === String(item.number) ? " open" : ""}`;
  node.fill = (known) => {
    node.style.minHeight = "";
    node.replaceChildren(...list.map((item) => known.get(keyOf(item)) ?? rowOf(item, keyOf(item))));
  };
  if (place < 2 || open || list.some((item) => built.has(keyOf(item)))) {
    node.fill(built);
  } else {
    node.style.minHeight = `${list.length * ROW}rem`;
    nearlySeen.observe(node);
  }
  return node;
}

const nearlySeen = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    nearlySeen.unobserve(target);
    target.fill(new Map());
  }
}, { rootMargin: "1000px" });

function rowOf(item, key) {
  const isOpen = view.exchange === String(item.number);
  const failed = !item.response.status || item.response.status >= 400;
  const row = make("li", { class: item.violations.length || SHOW.unmatched(item) ? "wrong" : "", "data-key": key, "data-number": item.number },
    make("button", { type: "button", class: "row", "aria-expanded": String(isOpen), onclick: () => open(isOpen ? "" : String(item.number)) },
      make("span", { class: "number" }, String(item.number)),
      make("span", { class: "time muted", title: `wall ${item.received_at}, tenant ${item.tenant_time}` }, item.received_at.slice(11, 23)),
      make("code", { title: item.request.path }, `${item.request.method} ${shortPath(item.request.path)}`),
      make("span", { class: "result" },
        item.fault && make("span", { class: "tag warn", title: plain(item.fault) }, "fault"),
        item.violations.length > 0 && make("span", { class: "tag bad" }, `${item.violations.length} ✗`),
        make("span", { class: failed ? "bad" : OUTCOME[item.response.prediction_status] ?? "" }, resultOf(item)))));
  if (isOpen) row.append(detailsOf(item));
  return row;
}

function detailsOf(item) {
  const { request, response } = item;
  const query = new URLSearchParams(request.query).toString();
  return make("div", { class: "details" },
    make("div", { class: "bar" },
      item.prediction && make("button", { type: "button", class: "quiet", onclick: () => { remember({ prediction: item.prediction }); load(); } }, "timeline"),
      make("button", { type: "button", class: "quiet copy-curl", onclick: () => copy(curlOf(item)) }, "copy as curl"),
      make("span", { class: "muted" }, [item.operation ?? "no such operation", item.scenario, `tenant's time ${item.tenant_time}`].filter(Boolean).join(" · "))),
    item.violations.length > 0 && make("ul", { class: "violations" }, ...item.violations.map((wrong) =>
      make("li", { class: "bad" }, `${wrong.pointer || "/"}: ${wrong.description}`, make("span", { class: "muted" }, ` sent ${wrong.sent}, allowed: ${wrong.allowed}`),
        wrong.line && " · ", wrong.line && make("a", { href: "/openapi.yaml", target: "_blank", rel: "noreferrer" }, `contract, line ${wrong.line}`)))),
    item.fault && make("p", { class: "warn" }, `fault: ${plain(item.fault)}${item.committed ? ", after it took effect" : ""}`),
    make("div", { class: "sides" },
      make("div", {}, make("h3", {}, "request"), make("pre", {}, `${request.method} ${request.path}${query ? "?" + query : ""}\n${linesOf(request.headers)}`, bodyOf(request.body, item.violations))),
      make("div", {}, make("h3", {}, "response"), make("pre", {}, `${response.status || "no answer"}\n${linesOf(response.headers)}`, bodyOf(response.body, [])))));
}

const linesOf = (values) => Object.entries(values).map((pair) => pair.join(": ") + "\n").join("");

/** A body as text, with each violation marked where it stands. */
function bodyOf(body, violations) {
  if (body === null) return "";
  if (typeof body === "string") return "\n" + body;
  const marks = new Map();
  for (const wrong of violations) marks.set(wrong.pointer, [...(marks.get(wrong.pointer) ?? []), wrong]);
  const node = make("span");
  node.append("\n", valueNode(body, "", "", marks));
  return node;
}

function valueNode(value, pointer, indent, marks) {
  const wrong = marks.get(pointer);
  const holder = make(wrong ? "mark" : "span");
  if (value !== null && typeof value === "object") {
    const [first, last] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    const inner = indent + "  ";
    const escape = (name) => String(name).replaceAll("~", "~0").replaceAll("/", "~1");
    const parts = Object.entries(value).map(([name, part]) => [Array.isArray(value) ? "" : JSON.stringify(name) + ": ", valueNode(part, `${pointer}/${escape(name)}`, inner, marks)]);
    const missing = [...marks].filter(([where, [item]]) => item.kind === "required" && where.startsWith(pointer + "/") && !where.slice(pointer.length + 1).includes("/"));
    holder.append(first);
    parts.forEach(([name, part], place) => holder.append(`\n${inner}${name}`, part, place < parts.length - 1 ? "," : ""));
    for (const [, [item]] of missing) holder.append(`\n${inner}`, make("mark", { class: "why" }, `✗ ${item.description}${placeOf(item)}`));
    holder.append(parts.length || missing.length ? `\n${indent}` : "", last);
  } else {
    holder.append(JSON.stringify(value));
  }
  if (wrong) holder.append(make("span", { class: "why" }, `  ✗ ${wrong.map((item) => `${item.description}; sent ${item.sent}, allowed: ${item.allowed}${placeOf(item)}`).join("; ")}`));
  return holder;
}

const placeOf = (wrong) => (wrong.line ? `; contract, line ${wrong.line}` : "");

function open(number, scroll = false) {
  if (scroll && number && !visible().some((item) => String(item.number) === number)) remember({ show: "", q: "", operation: "", status: "" });
  remember({ exchange: number }, true);
  renderJournal();
  const row = number && at("journal").querySelector(`[data-number="${CSS.escape(number)}"]`);
  if (row) {
    row.querySelector(".row").focus({ preventScroll: !scroll });
    if (scroll) row.scrollIntoView({ block: "nearest" });
  }
}

// ---- copying ----

const LEFT_OUT = new Set(["host", "content-length", "connection", "accept-encoding", "user-agent", "transfer-encoding"]);
const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function curlOf({ request }) {
  const query = new URLSearchParams(request.query).toString();
  const words = [`curl -X ${request.method} ${quoted(location.origin + request.path + (query ? "?" + query : ""))}`];
  for (const [name, value] of Object.entries(request.headers)) {
    if (name === "authorization") words.push(`-H "Authorization: Bearer $REPLICATE_API_TOKEN"`);
    else if (!LEFT_OUT.has(name)) words.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  if (request.body !== null) words.push(`--data-raw ${quoted(typeof request.body === "string" ? request.body : JSON.stringify(request.body))}`);
  return words.join(" \\\n  ");
}

/** The faults that the clients met, as a scenario that plays them again. */
function scenarioOf(exchanges) {
  const faults = {};
  for (const item of exchanges.filter((one) => one.operation)) {
    const { times, ...fault } = JSON.parse(plain(item.fault ?? {}));
    (faults[item.operation] ??= []).push(item.fault ? fault : null);
  }
  for (const [name, list] of Object.entries(faults)) {
    while (list.length && list.at(-1) === null) list.pop();
    if (!list.length) delete faults[name];
  }
  return { name: "met-before", faults };
}

/** The exchanges that are shown, as the server's own archive has them. */
async function copyArchive() {
  try {
    const archive = await ask("GET", "/requests.har");
    const wanted = new Set(visible().map((item) => item.number));
    archive.log.entries = archive.log.entries.filter((entry) => wanted.has(entry._number));
    await copy(JSON.stringify(archive, null, 2));
  } catch (error) {
    complain(error);
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed, or not there without https
    at("copied").querySelector("textarea").value = text;
    at("copied").showModal();
    at("copied").querySelector("textarea").select();
  }
}

// ---- the scenario's editor ----

async function check() {
  let value;
  try {
    value = JSON.parse(at("draft").value);
  } catch (error) {
    return trouble(error.message);
  }
  try {
    await ask("PUT", "/scenario?check=true", value);
    trouble("");
  } catch (error) {
    trouble(error.message);
  }
}

function trouble(text) {
  at("draft-trouble").textContent = text || "This is a scenario.";
  at("draft-trouble").className = text ? "bad" : "good";
  at("apply").disabled = Boolean(text);
}

// ---- hands ----

at("who").addEventListener("submit", (event) => {
  event.preventDefault();
  begin({ tenant: at("token").value ? "" : view.tenant, prediction: "", exchange: "" });
});
for (const id of ["steer", "filter"]) at(id).addEventListener("submit", (event) => event.preventDefault());
at("scenario").addEventListener("change", () => steer("PUT", "/scenario", at("scenario").value));
at("clock").addEventListener("change", () => steer("PUT", "/clock", { mode: at("clock").value }));
at("advance").addEventListener("click", () => steer("POST", "/clock/advance", { seconds: Number(at("seconds").value) }));
at("reset").addEventListener("click", () => { at("ask").returnValue = ""; at("ask").showModal(); });
at("ask").addEventListener("close", () => { if (at("ask").returnValue === "reset") { remember({ prediction: "", exchange: "" }); steer("POST", "/reset"); } });
at("edit").addEventListener("click", () => {
  at("editor").returnValue = "";
  at("draft").value = JSON.stringify(known.scenario, null, 2);
  at("editor").showModal();
  check();
});
at("draft").addEventListener("input", check);
at("editor").addEventListener("close", () => { if (at("editor").returnValue === "apply") steer("PUT", "/scenario", JSON.parse(at("draft").value)); });
at("help-button").addEventListener("click", () => at("help").showModal());
at("copy-scenario").addEventListener("click", () => copy(JSON.stringify(scenarioOf(known.exchanges), null, 2)));
at("copy-har").addEventListener("click", copyArchive);
at("search").addEventListener("input", () => { remember({ q: at("search").value }, true); renderJournal(); });
for (const id of ["show", "operation", "status"]) at(id).addEventListener("change", () => { remember({ [id]: at(id).value }); renderJournal(); });
at("only").addEventListener("click", () => choose(view.prediction));
at("verdict").addEventListener("click", () => { at("show").value = "violations"; at("show").dispatchEvent(new Event("change")); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (view.exchange) open("");
    else if (view.prediction) choose(view.prediction);
    return;
  }
  if (typing) return;
  const rows = [...at("journal").querySelectorAll(".row")];
  const place = rows.indexOf(document.activeElement);
  const act = {
    j: () => rows[Math.min(rows.length - 1, place + 1)]?.focus(),
    k: () => rows[Math.max(0, place - 1)]?.focus(),
    "/": () => at("search").focus(),
    v: () => { at("show").value = view.show === "violations" ? "" : "violations"; at("show").dispatchEvent(new Event("change")); },
    "?": () => at("help").showModal(),
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
window.addEventListener("popstate", recall);

(async () => {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in view) view[name] = value;
  at("search").value = view.q;
  at("show").value = view.show;
  const listing = await ask("GET", "/scenarios").catch(() => ({ scenarios: [] }));
  known.scenarios = listing.scenarios.map((item) => item.name);
  watch();
})();
