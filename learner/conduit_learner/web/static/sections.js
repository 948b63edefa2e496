// Turn a policy's report into the sections of the page.
import { BarChart, FrontierChart, IntervalChart, TimeChart, element, latest, sparkline } from "./charts.js";
import { count, moment, money, percent, quality, seconds, share, span } from "./format.js";

export function makeSections(byId) {
  const perThousand = (value) => money(value === null ? null : value);
  const charts = {
    share: new TimeChart(byId("share"), "Share of the traffic", "How much each deployment served", (value) => percent(value), { stacked: true, height: 240 }),
    quality: new TimeChart(byId("quality"), "Quality", "Mean rating, where failed calls count 0", (value) => (value === null ? "–" : value.toFixed(2)), { least: 0, most: 1 }),
    cost: new TimeChart(byId("cost"), "Cost per 1,000 requests", "As LiteLLM reported it", perThousand, { zero: true }),
    times: new Map(), // by field of the report, created when the field first appears
    errors: new TimeChart(byId("errors"), "Errors", "Share of the calls that failed", share, { zero: true }),
    frontier: new FrontierChart(byId("frontier"), "Cost and quality", "Each deployment as if it had served everything; the dashed line is the best that a random mix of them can reach", perThousand, (value) => value.toFixed(2)),
    saved: new IntervalChart(byId("saved"), "Saved against always using one deployment", "With 95 % intervals that stay valid however often you look; quality is how much better or worse Conduit's answers are", money, { zero: true }),
    learningQuality: new TimeChart(byId("learning-quality"), "Learning: quality so far", "Of everything served up to that time, next to always using the best deployment", (value) => (value === null ? "–" : value.toFixed(3)), { least: 0, most: 1 }),
    learningCost: new TimeChart(byId("learning-cost"), "Learning: cost so far", "Per 1,000 requests, next to always using one deployment", perThousand, { zero: true }),
    belief: new IntervalChart(byId("belief-quality"), "Learned quality of each deployment", "Mean in the newest snapshot with its 95 % interval; a wider interval means less data", (value) => value.toFixed(2), { least: 0, most: 1 }),
    coverage: new BarChart(byId("coverage"), "Feedback", "Share of answers that are rated", share),
  };
  let last = null;
  byId("which").addEventListener("change", () => last && showDecisions(byId, last.report));

  return {
    show(report, installation) {
      last = { report, installation };
      const context = prepare(report);
      showHeadline(byId, report, context);
      showTiles(byId, report, context);
      showTraffic(byId, charts, report, context);
      showWorth(charts, report, context);
      showArms(byId, charts, report, context);
      showDecisions(byId, report);
      showHealth(byId, report, installation);
      showChanges(byId, report);
    },
  };
}

function prepare(report) {
  const { series, arms, savings } = report;
  const cls = Object.fromEntries(arms.map((arm, index) => [arm.id, `c${index % 10}`]));
  const names = Object.fromEntries(arms.map((arm) => [arm.id, arm.name]));
  const points = series.starts_ms.length;
  const columns = Object.values(series.arms);
  const total = (name) => Array.from({ length: points }, (_, index) => columns.reduce((sum, column) => sum + column[name][index], 0));
  const totals = Object.fromEntries(["selections", "successes", "errors", ...report.amounts.flatMap(({ field }) => [field, `${field}_known`]), "rated", "rating"].map((name) => [name, total(name)]));
  const fixed = Object.fromEntries(savings.arms.map((arm) => [arm.id, arm]));
  return { cls, names, points, totals, fixed, best: fixed[savings.best] ?? null, mostExpensive: fixed[savings.most_expensive] ?? null };
}

// A share of few requests is noisy, so each point includes its neighbours until it covers enough requests.
const ENOUGH = 12;
function smooth(part, whole) {
  const farthest = Math.max(1, Math.floor(whole.length / 6));
  return whole.map((_, index) => {
    let [reach, above, below] = [0, part[index], whole[index]];
    while (below < ENOUGH && reach < farthest) {
      reach += 1;
      for (const near of [index - reach, index + reach]) {
        above += part[near] ?? 0;
        below += whole[near] ?? 0;
      }
    }
    const isNear = [index - 1, index, index + 1].some((near) => (whole[near] ?? 0) > 0);
    return below > 0 && (isNear || below >= ENOUGH) ? above / below : null;
  });
}

const ratio = (part, whole) => part.map((value, index) => (whole[index] > 0 ? value / whole[index] : null));
const qualities = ({ successes, errors, rated, rating }) =>
  rated.map((number, index) => {
    const ended = successes[index] + errors[index];
    const worked = ended ? successes[index] / ended : 1;
    return number ? (worked * rating[index]) / number : null;
  });
const smoothQualities = ({ successes, errors, rated, rating }) => {
  const worked = smooth(successes, plus(successes, errors));
  return smooth(rating, rated).map((mean, index) => (mean === null ? null : mean * (worked[index] ?? 1)));
};
const plus = (one, other) => one.map((value, index) => value + other[index]);
const thousand = (values) => values.map((value) => (value === null ? null : 1000 * value));
const cumulative = (values) => {
  let sum = 0;
  return values.map((value) => (sum += value));
};

function showHeadline(byId, report, { mostExpensive, best }) {
  const { totals, savings } = report;
  const net = (arm) => arm.saved_usd.mean - savings.judging_usd;
  const headline = byId("headline");
  if (!mostExpensive?.saved_usd || !mostExpensive.total_usd) {
    headline.textContent = `${count(totals.all)} requests routed for ${money(totals.spent_usd)}`;
    byId("subline").textContent = "Savings can be estimated once several deployments have served a few dozen requests each.";
    return;
  }
  const saved = net(mostExpensive);
  const word = saved >= 0 ? "saved" : "more spent"; // as in "12 % more spent against always using ..."
  const sure = mostExpensive.saved_usd.low - savings.judging_usd > 0;
  headline.replaceChildren(
    element("b", { class: saved < 0 ? "loss" : "" }, `${percent(Math.abs(saved) / mostExpensive.total_usd)} ${word}`),
    ` compared with always using ${mostExpensive.name}: ${money(Math.abs(saved))} of ${money(mostExpensive.total_usd)}`,
  );
  const parts = [`With 95 % confidence, it is between ${money(mostExpensive.saved_usd.low - savings.judging_usd)} and ${money(mostExpensive.saved_usd.high - savings.judging_usd)}${sure ? "" : ", so it may be zero"}.`];
  if (totals.quality !== null) parts.push(`Quality is ${quality(totals.quality)} over the time shown${mostExpensive.quality ? `; ${mostExpensive.name} alone would reach about ${quality(mostExpensive.quality.mean)}` : ""}.`);
  if (best && best.id !== mostExpensive.id && best.saved_usd) {
    const against = net(best);
    parts.push(`Compared with ${best.name}, the best single deployment so far, it spent ${money(Math.abs(against))} ${against >= 0 ? "less" : "more"}.`);
  }
  if (savings.judging_usd > 0) parts.push(`The ${money(savings.judging_usd)} spent on judging answers are subtracted.`);
  if (savings.left_out > 0) parts.push(`${count(savings.left_out)} decisions that Conduit did not make are not included.`);
  byId("subline").textContent = parts.join(" ");
}

function showTiles(byId, report, { totals: curves }) {
  const { totals } = report;
  const tiles = [
    ["Requests", count(totals.selections), totals.explored === null ? "" : `${share(totals.explored)} to try deployments out`, curves.selections],
    ["Quality", quality(totals.quality), totals.quality_reach === null ? "no ratings yet" : `± ${totals.quality_reach.toFixed(3)}`, qualities(curves)],
    ["Cost per 1,000", money(totals.cost_usd === null ? null : 1000 * totals.cost_usd), `${money(totals.spent_usd)} in total`, ratio(curves.cost_usd, curves.cost_usd_known)],
    ...times(report).map(({ title, field }) => [capital(title), seconds(totals[field]), "mean of successful calls", ratio(curves[field], curves[`${field}_known`])]),
    ["Errors", share(totals.error_rate), "of the calls", ratio(curves.errors, plus(curves.successes, curves.errors))],
    ["Rated", share(totals.coverage), `${count(totals.rated)} answers`, ratio(curves.rated, curves.successes)],
  ];
  byId("tiles").replaceChildren(
    ...tiles.map(([name, value, more, values]) =>
      element("div", { class: "tile" }, element("dt", {}, name), element("dd", {}, element("div", { class: "value" }, value), element("div", { class: "more" }, more)), sparkline(values, "own")),
    ),
  );
}

const times = (report) => report.amounts.filter((amount) => amount.is_time);
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function showTraffic(byId, charts, report, { cls, names, totals, points }) {
  const { series, arms } = report;
  const frame = { starts: series.starts_ms, width: series.width_ms };
  const present = arms.filter((arm) => series.arms[arm.id]);
  const nothing = points ? "" : "No requests in this time.";
  const curves = (values) => present.map((arm) => ({ name: names[arm.id], cls: cls[arm.id], values: values(series.arms[arm.id]) }));
  charts.share.show({ ...frame, series: curves((column) => ratio(column.selections, totals.selections)) }, nothing);
  const rated = totals.rated.some((number) => number > 0);
  charts.quality.show({ ...frame, series: curves(smoothQualities) }, nothing || (rated ? "" : "Nobody has rated an answer in this time."));
  charts.cost.show({ ...frame, series: curves((column) => thousand(smooth(column.cost_usd, column.cost_usd_known))) }, nothing);
  for (const { field, title } of times(report)) {
    if (!charts.times.has(field)) {
      const place = byId("times").appendChild(element("div", { id: field }));
      charts.times.set(field, new TimeChart(place, capital(title), "Mean of successful calls", seconds, { zero: true }));
    }
    charts.times.get(field).show({ ...frame, series: curves((column) => smooth(column[field], column[`${field}_known`])) }, nothing);
  }
  charts.errors.show({ ...frame, series: curves((column) => smooth(column.errors, plus(column.errors, column.successes))) }, nothing);
}

function showWorth(charts, report, { cls, totals, points, best, mostExpensive }) {
  const { savings, series } = report;
  const few = "Not enough data yet: every deployment needs a few dozen outcomes.";
  const sound = savings.arms.filter((arm) => !arm.doubt && arm.cost_usd);
  const own = report.totals;
  const dots = sound
    .filter((arm) => arm.quality && arm.cost_usd.mean > 0)
    .map((arm) => ({
      name: arm.name, cls: cls[arm.id] ?? "plain", own: false, x: 1000 * arm.cost_usd.mean, y: arm.quality.mean,
      xLow: 1000 * arm.cost_usd.low, xHigh: 1000 * arm.cost_usd.high, yLow: arm.quality.low, yHigh: arm.quality.high,
    }));
  const mix = hull(dots);
  if (own.cost_usd > 0 && own.quality !== null) {
    const reach = own.quality_reach;
    dots.push({ name: "Conduit", cls: "own", own: true, x: 1000 * own.cost_usd, y: own.quality, xLow: null, xHigh: null, yLow: reach === null ? null : Math.max(0, own.quality - reach), yHigh: reach === null ? null : Math.min(1, own.quality + reach) });
  }
  charts.frontier.show({ points: dots, mix }, dots.length > 1 ? "" : "Not enough data yet: this chart needs ratings and costs of at least two deployments.");
  const rows = sound.map((arm) => ({
    short: arm.name,
    name: arm.name + (arm === best ? " · best single deployment" : "") + (arm === mostExpensive ? " · most expensive" : ""),
    cls: arm.saved_usd.low > 0 ? "pos" : arm.saved_usd.high < 0 ? "neg" : "plain",
    mean: arm.saved_usd.mean, low: arm.saved_usd.low, high: arm.saved_usd.high,
    note: `${money(arm.saved_usd.mean)}${arm.quality_ahead ? ` · quality ${signed(-arm.quality_ahead.mean)}` : ""}`,
  }));
  charts.saved.show({ rows }, rows.length ? "" : few);
  const frame = { starts: series.starts_ms, width: series.width_ms };
  const nothing = points ? "" : "No requests in this time.";
  const sums = Object.fromEntries(Object.entries(totals).map(([name, values]) => [name, cumulative(values)]));
  const flat = (arm, measure, factor, words) => ({ name: `${arm.name}, ${words}`, cls: cls[arm.id] ?? "plain", flat: true, values: [factor * arm[measure].mean] });
  const band = (arm, measure) => ({ cls: cls[arm.id] ?? "plain", low: arm[measure].low, high: arm[measure].high });
  const learned = qualities(sums);
  charts.learningQuality.show(
    { ...frame, series: [{ name: "Conduit", cls: "own", values: learned }, ...(best?.quality ? [flat(best, "quality", 1, "always")] : [])], bands: best?.quality ? [band(best, "quality")] : [] },
    nothing || (latest(learned) === null ? "Nobody has rated an answer in this time." : ""),
  );
  const others = [...new Set([best, mostExpensive])].filter((arm) => arm?.cost_usd);
  charts.learningCost.show({ ...frame, series: [{ name: "Conduit", cls: "own", values: thousand(ratio(sums.cost_usd, sums.cost_usd_known)) }, ...others.map((arm) => flat(arm, "cost_usd", 1000, "always"))] }, nothing);
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

// The upper left hull of the deployments: what a random mix of two of them can reach.
function hull(points) {
  const sorted = [...points].sort((one, other) => one.x - other.x || other.y - one.y);
  const found = [];
  for (const { x, y } of sorted) {
    if (found.length && y <= found[found.length - 1][1]) continue;
    while (found.length > 1) {
      const [[x0, y0], [x1, y1]] = found.slice(-2);
      if ((y1 - y0) * (x - x0) > (y - y0) * (x1 - x0)) break;
      found.pop();
    }
    found.push([x, y]);
  }
  return found;
}

function showArms(byId, charts, report, { cls }) {
  const heads = ["Deployment", "Requests", "Share", "Quality", "Cost per 1,000", ...times(report).flatMap(({ title }) => [capital(title), "95th percentile"]), "Errors", "Rated"];
  byId("arm-table").replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element(
      "tbody",
      {},
      ...report.arms.map((arm) => {
        const cells = [
          count(arm.selections), share(arm.share), [quality(arm.quality), arm.quality_reach === null ? null : element("small", {}, ` ± ${arm.quality_reach.toFixed(3)}`)],
          money(arm.cost_usd === null ? null : 1000 * arm.cost_usd), ...times(report).flatMap(({ field }) => [seconds(arm[field]), seconds(arm.p95[field])]), share(arm.error_rate), share(arm.coverage),
        ];
        const model = arm.model && arm.model !== arm.name ? element("small", {}, ` ${arm.model}`) : null;
        return element("tr", {}, element("th", { scope: "row", class: cls[arm.id] }, element("i", {}), arm.name, model), ...cells.map((cell) => element("td", {}, ...[cell].flat().filter((part) => part !== null))));
      }),
    ),
  );
  const known = report.arms.filter((arm) => arm.beliefs.quality);
  const rows = known.map((arm) => ({ name: arm.name, cls: cls[arm.id], ...arm.beliefs.quality, note: `${arm.beliefs.quality.mean.toFixed(2)} from ${count(arm.beliefs.quality.observations)} ratings` }));
  charts.belief.show({ rows }, rows.length ? "" : "The newest snapshot includes no ratings.");
  const coverage = report.arms.map((arm) => ({ name: arm.name, cls: cls[arm.id], value: arm.coverage, note: `${share(arm.coverage)} · ${count(arm.rated)} rated` }));
  charts.coverage.show({ rows: coverage }, coverage.length ? "" : "No deployment has served a request yet.");
}

const KINDS = {
  explored: (decision) => decision.is_exploration,
  failed: (decision) => decision.status === "error",
  rated: (decision) => decision.rating !== null,
};

function showDecisions(byId, report) {
  const host = byId("decision-list");
  const open = new Set([...host.querySelectorAll("details[open]")].map((details) => details.dataset.id));
  if (host.contains(document.activeElement) && open.size) return; // do not move the list while somebody is reading an entry
  const keep = KINDS[byId("which").value] ?? (() => true);
  const cls = Object.fromEntries(report.arms.map((arm, index) => [arm.id, `c${index % 10}`]));
  const shown = report.decisions.filter(keep);
  host.replaceChildren(
    ...shown.map((decision) => {
      const tags = [];
      if (decision.is_exploration) tags.push(element("span", { class: "tag try" }, "tried out"));
      if (decision.status === "error") tags.push(element("span", { class: "tag bad" }, "failed"));
      if (decision.rating !== null) tags.push(element("span", { class: "tag" }, `rated ${decision.rating.toFixed(2)}`));
      return element(
        "li",
        {},
        element("div", { class: `who ${cls[decision.arm] ?? "plain"}` }, element("i", {}), decision.name, ...tags, element("time", { datetime: new Date(decision.time_ms).toISOString() }, moment(decision.time_ms))),
        element("p", {}, decision.reason),
        element("p", {}, decision.consequence),
        element("details", { "data-id": decision.id, open: open.has(decision.id) }, element("summary", {}, "Prove it"), element("code", {}, `conduit explain ${decision.id} --policy ${report.policy}`)),
      );
    }),
  );
  if (!shown.length) host.append(element("li", { class: "nothing" }, report.decisions.length ? "None among the newest decisions." : "No decisions yet."));
}

function showHealth(byId, report, installation) {
  const { health } = report;
  const { reasons, about, newest } = installation.dead_letters;
  const letters = Object.values(reasons).reduce((sum, number) => sum + number, 0);
  const behind = `${count(health.events_behind)}${health.is_more_behind ? " or more" : ""}`;
  const fallbacks = Object.values(health.fallbacks).reduce((sum, number) => sum + number, 0);
  const alarms = report.arms.flatMap((arm) => arm.alarms.map((alarm) => `${arm.name}: ${alarm.words} (${moment(alarm.time_ms)}).`));
  const checks = [
    health.snapshot_age_s === null
      ? ["warn", "Learner", "no snapshot yet", "Nothing has been learned about this policy yet. Is a learner running?"]
      : [health.events_behind > 1000 ? "warn" : "good", "Learner", health.events_behind ? `${behind} events behind` : "up to date", `The newest snapshot covers the log up to offset ${count(health.snapshot_offset)} of partition ${health.partition} and was published ${span(health.snapshot_age_s)} ago. Algorithm: ${health.algorithm}.`],
    [fallbacks > 0.2 * report.totals.all ? "warn" : "good", "Decisions", fallbacks ? `${count(fallbacks)} made by LiteLLM` : "all made by Conduit", Object.entries(health.fallbacks).map(([why, number]) => `${count(number)} by LiteLLM's own selection: ${health.about_fallbacks[why]}`).join(" ") || "No request had to be left to LiteLLM's own selection."],
    [report.totals.coverage === 0 || report.totals.coverage === null ? "warn" : "good", "Feedback", `${share(report.totals.coverage)} rated`, report.totals.rated ? `${count(report.totals.rated)} answers in the time shown. ${health.unmatched ? `${count(health.unmatched)} outcomes and ratings belong to decisions that this page does not know (any more).` : ""}` : "Without ratings, Conduit routes by failures alone and never by price."],
    [alarms.length ? "warn" : "good", "Drift", alarms.length ? `${count(alarms.length)} alarms` : "no alarms", alarms.join(" ") || "No change of a deployment was detected."],
    [report.totals.error_rate > 0.05 ? "warn" : "good", "Failed calls", Object.keys(health.errors).length ? count(Object.values(health.errors).reduce((sum, number) => sum + number, 0)) : "none", Object.entries(health.errors).map(([name, number]) => `${name}: ${count(number)}`).join(", ") || "No call with an outcome failed."],
    [letters ? "warn" : "good", "Dead letters", letters ? count(letters) : "none", letters ? `${Object.entries(reasons).map(([why, number]) => `${count(number)} ${why}: ${about[why]}`).join(" ")} See conduit dead-letters list.` : "Every record could be used."],
    ["good", "Open decisions", health.open_decisions === null ? "–" : count(health.open_decisions), `The learner still waits for their outcomes and ratings. ${health.censored ? `${count(health.censored)} were closed without an outcome.` : ""}`],
    installation.spool_bytes === null ? null : [installation.spool_bytes > 65536 ? "warn" : "good", "Spool", installation.spool_bytes ? `${count(installation.spool_bytes / 1024)} KB` : "empty", "Events that wait for the log on this machine's disk. Other machines' spools are not visible here."],
  ].filter((check) => check !== null);
  const SIGNS = { good: "ok", warn: "look", bad: "bad" };
  byId("checks").replaceChildren(
    ...checks.map(([cls, name, value, words]) =>
      element("li", {}, element("div", { class: "row" }, element("b", {}, `${name}: ${value}`), element("span", { class: `tag ${cls}` }, SIGNS[cls])), element("p", {}, words)),
    ),
  );
  const shown = JSON.stringify(newest);
  if (byId("letters").dataset.shown === shown) return;
  byId("letters").dataset.shown = shown;
  byId("letters").replaceChildren(
    ...(letters
      ? [element("details", {}, element("summary", {}, "The newest dead letters"), element("ol", { class: "changes" }, ...newest.map((letter) => element("li", {}, element("time", {}, moment(letter.time_ms)), element("p", {}, `${letter.reason} at ${letter.place}: ${letter.message}`)))))]
      : []),
  );
}

function showChanges(byId, report) {
  const said = [];
  if (report.routing) {
    const { words, changed_by: by, changed_at: at, rollout, spend } = report.routing;
    said.push(`${words} Set by ${by || "an unnamed user"}${at ? ` on ${moment(1000 * at)}` : ""}.`);
    if (rollout) said.push(`Roll-out: ${rollout.stage.replace("_", " ")}${rollout.reason ? `, because ${rollout.reason}` : ""}.`);
    if (spend[""]) said.push(`Spent today: ${money(spend[""].day_usd)}.`);
  }
  if (report.objective_words) said.push(`Weights of the newest decision: ${report.objective_words}.`);
  byId("objective").textContent = said.join(" ");
  const rows = report.changes.map((change) =>
    element("li", {}, element("time", { datetime: new Date(change.time_ms).toISOString() }, moment(change.time_ms)), element("p", {}, change.what, element("br"), element("span", {}, `${change.kind}${change.by ? `, by ${change.by}` : ""}`))),
  );
  byId("change-list").replaceChildren(...(rows.length ? rows : [element("li", {}, element("p", {}, "No settings were changed in the events read."))]));
}
