// The page: its views by address, what is above and below them, and what is said when something is away.

import { key } from "./api.js";
import { h, show } from "./dom.js";
import { BEHIND_MS, may, newest, now, onChange, refresh, start, state } from "./state.js";
import { ago, fault, LANGUAGES, language, moment, setFactors, speak, t, units } from "./words.js";

const VIEWS = [
  [/^\/$/, () => import("./views/city.js")],
  [/^\/stations\/([A-Za-z0-9][A-Za-z0-9._-]*)$/, () => import("./views/station.js")],
  [/^\/alerts$/, () => import("./views/alerts.js")],
  [/^\/quality$/, () => import("./views/quality.js")],
  [/^\/pipeline$/, () => import("./views/pipeline.js")],
  [/^\/manage$/, () => import("./views/manage.js")],
];
const PLACES = [["/", "nav.city"], ["/alerts", "nav.alerts"], ["/quality", "nav.quality"], ["/pipeline", "nav.pipeline"]];
const THEME = "skyfuse-theme";
const main = document.getElementById("main");
const notice = document.getElementById("notice");
let closing = null;
let turn = 0;

const query = () => new URLSearchParams(location.search);

function theme(name) {
  document.documentElement.dataset.theme = name;
}

export function go(address) {
  history.pushState(null, "", address);
  route(true);
}

async function route(moved = false) {
  const mine = ++turn;
  closing?.();
  closing = null;
  const [pattern, load] = VIEWS.find(([one]) => one.test(location.pathname)) ?? VIEWS[0];
  const found = location.pathname.match(pattern);
  head();
  try {
    const view = await load();
    if (mine !== turn) return;
    const made = await view.open(main, { id: found?.[1], go, query: query() });
    if (mine !== turn) made?.close?.();
    else {
      closing = made?.close ?? null;
      document.title = `${made?.title ?? t("nav.city")} · ${state.site?.title ?? "skyfuse"}`;
      if (moved) main.focus({ preventScroll: true });
      if (moved) scrollTo(0, 0);
    }
  } catch (error) {
    if (mine === turn) show(main, h("h1", {}, t("error.title")), h("p", { class: "bad" }, fault(error)), keyForm());
  }
}

/** A field for a key, where one is needed. */
export function keyForm() {
  const field = h("input", { type: "password", id: "key", autocomplete: "off", value: key.get() });
  return h(
    "form", { class: "keyform", onsubmit: (event) => { event.preventDefault(); key.set(field.value.trim()); location.reload(); } },
    h("label", { for: "key" }, t("key.label")), field, h("button", {}, t("key.use")), h("p", { class: "dim" }, t("key.hint")),
  );
}

/** Open alerts that the badge counts. */
function countOpen() {
  return [...state.alerts.values()].filter((one) => one.severity !== "info").length;
}

function head() {
  const places = state.site && may("admin") ? [...PLACES, ["/manage", "nav.manage"]] : PLACES;
  const here = location.pathname.startsWith("/stations/") ? "/" : location.pathname;
  const open = countOpen();
  const pick = (label, options, chosen, change) =>
    h("select", { "aria-label": label, onchange: (event) => change(event.target.value) },
      Object.entries(options).map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  show(
    document.getElementById("top"),
    h("a", { class: "brand", href: "/", "data-go": "" }, h("img", { src: "/static/icon.svg", alt: "", width: 28, height: 28 }), state.site?.title ?? "skyfuse"),
    h("nav", { "aria-label": t("nav.label") }, places.map(([address, name]) =>
      h("a", { href: address, "data-go": "", "aria-current": address === here ? "page" : null }, t(name),
        address === "/alerts" && open ? h("span", { class: "count" }, open) : null))),
    h("div", { class: "tools" },
      pick(t("tools.language"), LANGUAGES, language, async (name) => { await speak(name); frame(); route(); }),
      pick(t("tools.units"), { auto: t("units.auto"), mass: "µg/m³", ppb: "ppb" }, units.get(), (name) => { units.set(name); route(); }),
      pick(t("tools.theme"), { auto: t("theme.auto"), light: t("theme.light"), dark: t("theme.dark") }, localStorage.getItem(THEME) ?? "auto",
        (name) => { localStorage.setItem(THEME, name); theme(name); route(); })),
  );
}

function frame() {
  document.getElementById("skip").textContent = t("skip");
  show(
    document.getElementById("foot"),
    h("p", {}, h("span", { class: "imputed" }, "~"), ` ${t("foot.imputed")} · ${t("foot.shapes")}`),
    h("p", {}, h("a", { href: "/api/v1/openapi.json" }, "API"), " · ", h("a", { href: "/?kiosk=1" }, t("foot.kiosk")),
      ` · skyfuse ${state.site?.version ?? ""}`),
  );
}

function tell() {
  const lines = [];
  const since = (date) => `${moment(date, undefined)} (${ago(date, now())})`;
  if (state.denied) lines.push(t("notice.key"));
  else if (state.lostSince && Date.now() - state.lostSince > 1500) lines.push(t("notice.lost", { since: since(state.lostSince) }));
  else if (state.kafkaSince) lines.push(t("notice.kafka", { since: since(state.kafkaSince) }));
  if (!state.denied && !lines.length) {
    for (const one of state.workersAway) {
      lines.push(t(one.waits_for ? "notice.waits" : "notice.worker", { role: one.role, what: one.waits_for, since: since(new Date(one.since)) }));
    }
    for (const one of state.workersBehind) lines.push(t("notice.late", { role: one.role, since: since(new Date(one.since)) }));
  }
  const last = newest();
  if (!lines.length && last && now() - new Date(last) > BEHIND_MS) {
    lines.push(t(state.coming ? "notice.catching" : "notice.behind", { since: since(new Date(last)) }));
  }
  const text = lines.join(" ");
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => route(true));

async function boot() {
  theme(query().get("theme") ?? localStorage.getItem(THEME) ?? "auto");
  document.body.classList.toggle("kiosk", query().has("kiosk"));
  await speak();
  for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
    try {
      await refresh();
      break;
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        head();
        show(main, h("h1", {}, t("key.title")), h("p", {}, fault(error)), keyForm());
        return;
      }
      show(main, h("p", { class: "bad" }, fault(error)));
      await new Promise((wait) => setTimeout(wait, pause));
    }
  }
  setFactors(state.site.ug_per_ppb);
  frame();
  start();
  onChange(tell);
  setInterval(tell, 5000);
  tell();
  let shown = "";
  onChange(() => {
    const open = String(countOpen());
    // Who is choosing something up there is not disturbed; it is drawn with the next change.
    if (open === shown || document.activeElement?.closest?.("#top")) return;
    shown = open;
    head();
  });
  await route();
}

boot();
