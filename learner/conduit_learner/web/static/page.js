// Asks the server for the view every few seconds and shows it.
import { element } from "./charts.js";
import { bytes, count, percent, span } from "./format.js";
import { makeSections } from "./sections.js";

const EVERY_MS = 2500;
const byId = (id) => document.getElementById(id);
const state = { policy: null, range: "all", failures: 0, installation: null };
const sections = makeSections(byId);

async function ask(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  return response.json();
}

async function refresh() {
  try {
    state.installation = await ask("/api/installation");
    choosePolicies(state.installation.policies);
    offerChoices(state.installation.choices);
    if (state.policy !== null) {
      const query = new URLSearchParams({ name: state.policy, range: state.range });
      const report = await ask(`/api/policy?${query}`);
      if (report.policy === state.policy && report.range === state.range) sections.show(report, state.installation);
    }
    state.failures = 0;
    showReading(state.installation);
  } catch (error) {
    state.failures += 1;
    showLive("bad", "no answer");
    notice([["bad", `This page's server does not answer: ${error.message}. The page shows the last data received.`]]);
  }
}

function choosePolicies(policies) {
  const select = byId("policy");
  const names = policies.map((policy) => policy.name);
  if (names.length && !names.includes(state.policy)) {
    const wanted = new URLSearchParams(location.hash.slice(1)).get("policy");
    const busiest = policies.reduce((best, policy) => (policy.selections > best.selections ? policy : best));
    state.policy = names.includes(wanted) ? wanted : busiest.name;
  }
  if ([...select.options].map((option) => option.value).join("\n") === names.join("\n")) return;
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  if (names.length) select.value = state.policy;
  select.disabled = names.length < 2;
}

function offerChoices({ modes, presets, canary_share }) {
  if (byId("mode").options.length > 1) return;
  for (const [id, names] of [["mode", modes], ["wanted", presets]]) {
    byId(id).append(...names.map((name) => element("option", { value: name }, name)));
  }
  byId("canary").defaultValue = canary_share; // which is also what the form goes back to
}

function showReading(installation) {
  const { reading } = installation;
  const found = [];
  if (reading.away_s !== null) {
    found.push(["bad", `The log has been unreachable for ${span(reading.away_s)}: ${reading.trouble}. The page shows what was read before.`]);
  } else if (!reading.is_complete && state.policy !== null) {
    found.push(["", `Still reading the log: ${count(reading.read)} of ${count(reading.to_read)} events. The numbers will still grow.`]);
  }
  if (reading.skipped > 0) found.push(["", `${count(reading.skipped)} older events are not included: start the page with a larger --events to include them.`]);
  if (installation.events_of_policies_not_shown > 0) found.push(["", `${count(installation.events_of_policies_not_shown)} events belong to policies beyond the first 40, which this page does not track.`]);
  notice(found);
  byId("content").hidden = state.policy === null;
  byId("control").hidden = !installation.can_write;
  byId("rights").textContent = installation.can_write ? "Anyone with the token can change objective and mode." : "This page is read-only.";
  showEmpty(installation);
  byId("source").textContent = `conduit-litellm ${installation.version}, ${installation.log}; ${count(installation.events)} events read${installation.spool_bytes ? `; ${bytes(installation.spool_bytes)} of events wait on this machine's disk` : ""}.`;
  if (reading.away_s !== null) showLive("bad", "log unreachable");
  else if (reading.is_complete) showLive("good", `live · ${new Date(installation.now_ms).toLocaleTimeString("en", { hour12: false })}`);
  else showLive("warn", `reading ${percent(reading.to_read ? reading.read / reading.to_read : 1)}`);
}

function showEmpty(installation) {
  const { reading } = installation;
  const host = byId("empty");
  host.hidden = state.policy !== null;
  if (state.policy !== null) return;
  if (reading.is_complete) {
    host.replaceChildren(
      element("h1", {}, "No decisions yet"),
      element("p", {}, "The log holds no events. Requests appear here once a LiteLLM Router with a ConduitRoutingStrategy serves them."),
      element("p", {}, "To try the page out, run ", element("code", {}, "conduit demo --path demo-log"), " and ", element("code", {}, "conduit dashboard --path demo-log")),
    );
    return;
  }
  const bar = element("progress", { max: Math.max(1, reading.to_read), value: reading.read, "aria-label": "Events read" });
  host.replaceChildren(element("h1", {}, "Reading the log"), bar, element("p", {}, `${count(reading.read)} of ${count(reading.to_read)} events`));
}

function notice(found) {
  const host = byId("notices");
  const text = JSON.stringify(found);
  if (host.dataset.text === text) return; // so that a screen reader announces it only once
  host.dataset.text = text;
  host.replaceChildren(...found.map(([cls, words]) => element("p", { class: `notice ${cls}` }, words)));
}

function showLive(cls, words) {
  byId("live").className = `live ${cls}`;
  // The dot and the clock are visual only: a screen reader does not announce each update.
  const text = byId("live").lastElementChild;
  text.textContent = words;
  byId("live").setAttribute("aria-live", "off");
}

const THEMES = [["system", "◐", "same as the system"], ["light", "☀", "light"], ["dark", "☾", "dark"]];

function setTheme(name) {
  const [chosen, sign, words] = THEMES.find(([known]) => known === name) ?? THEMES[0];
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  localStorage.setItem("conduit-theme", chosen);
  byId("theme").textContent = sign;
  byId("theme").setAttribute("aria-label", `Colours: ${words}`);
  byId("theme").title = `Colours: ${words}`;
}

byId("theme").addEventListener("click", () => {
  const now = THEMES.findIndex(([name]) => name === (localStorage.getItem("conduit-theme") ?? "system"));
  setTheme(THEMES[(now + 1) % THEMES.length][0]);
});
setTheme(localStorage.getItem("conduit-theme") ?? "system");

byId("policy").addEventListener("change", (event) => {
  state.policy = event.target.value;
  refresh();
});
for (const input of document.querySelectorAll("input[name=range]")) {
  if (input.checked) state.range = input.value;
  input.addEventListener("change", () => {
    state.range = input.value;
    refresh();
  });
}

byId("mode").addEventListener("change", (event) => (byId("canary-label").hidden = event.target.value !== "canary"));
byId("control").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = { policy: state.policy, by: byId("by").value };
  if (byId("mode").value) wanted.mode = byId("mode").value;
  if (byId("mode").value === "canary") wanted.canary_share = Number(byId("canary").value);
  if (byId("wanted").value) wanted.objective = byId("wanted").value;
  const said = byId("control-said");
  if (!wanted.mode && !wanted.objective) {
    said.textContent = "Choose a mode or an objective first.";
    return;
  }
  try {
    const response = await fetch("/api/routing", {
      method: "POST",
      headers: { Authorization: `Bearer ${byId("token").value}`, "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    said.textContent = response.ok ? "Saved in the log. It takes effect once the learner has published it." : (await response.text()).trim();
    if (response.ok) event.target.reset();
  } catch (error) {
    said.textContent = `The server does not answer: ${error.message}`;
  }
  refresh();
});

async function forever() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS * Math.min(8, 2 ** state.failures)));
  }
}
document.addEventListener("visibilitychange", () => document.hidden || refresh());
forever();
