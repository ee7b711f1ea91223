// The widget: one station in a frame on somebody's page.

import { get } from "./api.js";
import { h, show } from "./dom.js";
import { mark, sides, statusWords, value, zoneOf } from "./marks.js";
import { isStale, now, state } from "./state.js";
import { ago, fault, LABELS, moment, setFactors, speak, t } from "./words.js";

const EVERY_MS = 20000;
const main = document.getElementById("main");
const id = decodeURIComponent(location.pathname.split("/").pop());

function fill(one) {
  const stale = isStale(one);
  const first = Object.keys(LABELS).find((name) => one.pollutants[name]);
  const name = state.stations.get(id)?.name || id;
  document.title = name;
  show(
    main,
    h("h1", {}, name),
    h("div", { class: "widgetrow" }, mark(one, 64),
      h("div", {}, h("p", { class: "lead" }, h("strong", {}, `AQI ${one.index?.index ?? "–"}`), ` ${statusWords(one)}`),
        h("p", {}, first ? [`${LABELS[first]} `, value(first, one.pollutants[first])] : "", h("span", { class: "dim" }, ` · ${sides(one)}`)),
        h("p", { class: stale ? "bad" : "dim" }, stale ? t("stale.since", { since: moment(one.at, zoneOf(id)) }) : ago(new Date(one.at), now()), " · ",
          h("a", { href: `/stations/${id}`, target: "_blank", rel: "noopener" }, state.site.title)))),
  );
}

async function look() {
  try {
    if (!state.site) {
      state.site = await get("site");
      setFactors(state.site.ug_per_ppb);
      const station = await get(`stations/${id}`);
      state.stations.set(id, { ...station.properties, place: null });
    }
    state.latest.set(id, await get(`latest/${id}`));
  } catch (error) {
    if (!state.latest.has(id)) show(main, h("h1", {}, id), h("p", { class: "bad" }, fault(error)));
  }
  const one = state.latest.get(id);
  if (one) fill(one);
}

document.documentElement.dataset.theme = new URLSearchParams(location.search).get("theme") ?? "auto";
await speak();
await look();
setInterval(look, EVERY_MS);
