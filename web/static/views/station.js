// Station: its series, what each value rests on, and why its index is what it is.

import { fileOf, get, key } from "../api.js";
import { chart, timeline } from "../chart.js";
import { h, show } from "../dom.js";
import { forecastCard } from "./forecast.js";
import { notesCard } from "./notes.js";
import { mark, shapeOf, sides, statusWords, value, zoneOf } from "../marks.js";
import { isStale, look, may, nameOf, now, onChange, state } from "../state.js";
import { carriers, told } from "../told.js";
import { adviceOf, ago, coded, fault, LABELS, moment, number, signed, t, unitOf } from "../words.js";

/** Neighbours that are named. */
const NAMED = 4;
const RANGES = { "6h": 6, "24h": 24, "7d": 168, "30d": 720 };

/** The key that may not see pictures: it is not asked again whether it may. */
let blind = null;

/** A station of which nobody has said anything: until somebody does there is nothing to ask for. */
function unknown(main, id, known, again) {
  show(main, h("h1", {}, id), h("p", {}, t("station.unknown")), h("p", {}, h("a", { href: "/", "data-go": "" }, t("nav.city"))));
  const stop = onChange(() => { if (known()) again(); });
  return { title: id, close: stop };
}

export async function open(main, { id, query, go }) {
  const known = () => state.latest.has(id) || state.stations.has(id);
  if (!known()) return unknown(main, id, known, () => go(location.pathname + location.search));
  // What somebody mistyped is passed over.
  const asked = (name, all, otherwise) => (Object.hasOwn(all, query.get(name) ?? "") ? query.get(name) : otherwise);
  let what = asked("what", LABELS, "index");
  let range = asked("range", RANGES, "6h");
  let plot = null;
  let ended = false;
  const zone = zoneOf(id);
  const head = h("section", { class: "head" });
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("station.pollutants") });
  const why = h("ul", { class: "why" });
  const rules = h("ul", { class: "rules" });
  const bars = h("div", { class: "bars" });
  const cameras = h("div", { class: "cameras" });
  const plotted = h("div", {});
  const below = h("div", {});
  const choices = h("div", { class: "choices" });
  const forecast = forecastCard(id, zone);
  const notes = notesCard(id, zone);
  const camerasBox = h("section", { class: "card", hidden: true }, h("h2", {}, t("station.camera")), cameras);
  show(
    main, head,
    h("section", { class: "card wide" }, choices, plotted, below),
    forecast.element,
    h("div", { class: "cards" },
      h("section", { class: "card broad" }, h("h2", {}, t("station.pollutants")), table),
      h("section", { class: "card" }, h("h2", {}, t("station.subindices")), bars),
      camerasBox,
      h("section", { class: "card" }, h("h2", {}, t("station.why")), why),
      h("section", { class: "card" }, h("h2", {}, t("station.alerts")), rules),
      notes.element,
      h("section", { class: "card" }, h("h2", {}, t("station.share")), share(id))),
  );

  function fillHead() {
    const one = state.latest.get(id);
    const station = state.stations.get(id);
    if (!one) {
      show(head, h("h1", {}, nameOf(id)), h("p", {}, t(station ? "station.nothing" : "station.unknown")));
      return;
    }
    const category = look(one.index);
    const stale = isStale(one);
    show(
      head,
      h("div", { class: "big" }, mark(one, 92)),
      h("div", {},
        h("h1", {}, nameOf(id), h("span", { class: "dim" }, ` ${id}${station?.city ? ` · ${station.city}` : ""}`)),
        h("p", { class: "lead" }, h("strong", {}, `AQI ${one.index?.index ?? "–"}`), ` · ${statusWords(one)}`,
          one.index?.lo !== undefined && one.index?.lo !== null ? ` · ${t("station.interval", { lo: one.index.lo, hi: one.index.hi })}` : "",
          h("span", { class: "dim" }, ` · ${one.index?.standard ?? ""}`)),
        h("p", { class: stale ? "bad" : "dim" }, stale ? t("stale.since", { since: moment(one.at, zone) }) : ago(new Date(one.at), now()),
          ` · ${t(`shape.${shapeOf(one)}`)} · ${sides(one)}`,
          one.index?.dominant?.length ? ` · ${t("station.dominant", { names: one.index.dominant.map((name) => LABELS[name]).join(", ") })}` : ""),
        category && !stale && one.index.status !== "insufficient" ? advice(category) : null,
        one.index?.reason ? h("details", {}, h("summary", {}, t("station.notvalid", { status: t(`status.${one.index.status}`) })), because ? h("ul", { class: "dim" }, because.parts.map((part) => h("li", {}, told("why", part)))) : h("p", { lang: "en", class: "dim" }, one.index.reason)) : null),
    );
  }

  function fillTable(estimate) {
    const names = Object.keys(LABELS).filter((name) => estimate.pollutants[name] || estimate.missing[name]);
    show(table, h("table", {},
      h("thead", {}, h("tr", {}, ["col.pollutant", "col.value", "col.kind", "col.flag", "col.from"].map((one) => h("th", { scope: "col" }, t(one))))),
      h("tbody", {}, names.map((name) => {
        const one = estimate.pollutants[name];
        if (!one) {
          const lost = estimate.missing[name];
          return h("tr", {}, h("th", { scope: "row" }, LABELS[name]), h("td", {}, "–"), h("td", {}, t("kind.missing")),
            h("td", {}, t(`flag.${lost.qc}`)), h("td", {}, refused(lost.refused)));
        }
        return h("tr", {}, h("th", { scope: "row" }, LABELS[name]), h("td", { class: "num" }, value(name, one)),
          h("td", {}, t(`kind.${one.kind}`)), h("td", {}, t(`flag.${one.qc}`)),
          h("td", {}, one.kind === "imputed" ? carried(one, listening?.get(name)) : one.sensors.join(", "), refused(one.refused)));
      }))));
  }

  function fillBars(estimate) {
    const block = estimate.indices[0];
    const found = Object.entries(block?.subindices ?? {});
    const most = Math.max(50, ...found.map(([, points]) => points));
    const standard = state.site.standards.find((one) => one.id === block?.standard);
    show(bars, found.length ? found.sort((a, b) => b[1] - a[1]).map(([name, points]) => {
      const category = standard?.categories.find((one) => points >= one.low && (one.high === null || one.high === undefined || points <= one.high));
      return h("div", { class: "bar" }, h("span", {}, LABELS[name], block.dominant.includes(name) ? h("b", {}, ` ${t("station.leads")}`) : ""),
        h("span", { class: "track" }, h("i", { style: { width: `${(100 * points) / most}%`, background: category?.shade ?? "var(--dim)" } })), h("span", { class: "num" }, points));
    }) : h("p", { class: "dim" }, t("station.nosub")));
    const shares = Object.entries(estimate.model?.shares ?? {});
    if (shares.length) {
      bars.append(h("details", {}, h("summary", {}, t("station.shapley", { aqi: number(estimate.model.aqi) })),
        h("ul", {}, shares.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).map(([name, share]) => h("li", {}, `${LABELS[name] ?? t(`share.${name}`)}: ${signed(share)}`))),
        h("p", { class: "dim" }, t("station.modelown"))));
    }
  }

  /** Whom it listens to, by pollutant: it changes once an hour, and is of use where others carry a value. */
  let listening = null;
  /** What is said of the index, with its reasons; null until it is told. */
  let because = null;
  /** Cameras of which is shown what the model looks at. */
  const heated = new Set();

  async function explain() {
    if (state.latest.has(id)) await explainEstimate();
    else show(why, h("li", { class: "dim" }, t("station.nothing")));
    try {
      const found = (await get(`alerts/explain?station=${id}`)).rules;
      if (!ended) show(rules, found.map((one) => h("li", { class: one.open ? "open" : "" }, h("b", {}, `${one.open ? "● " : "○ "}${one.rule}`), h("span", { lang: "en" }, ` ${one.text}`))));
    } catch {
      // The notice says that the server is away.
    }
  }

  async function explainEstimate() {
    try {
      const { estimate, told: lines } = await get(`explain?station=${id}`);
      if (ended) return;
      if (!listening && Object.values(estimate.pollutants).some((one) => one.weights?.neighbours)) {
        const found = await get(`listening?station=${id}`).catch(() => null);
        if (found) listening = new Map(found.sensors.map((one) => [one.pollutant, one.neighbours]));
      }
      if (ended) return;
      fillTable(estimate);
      fillBars(estimate);
      show(why, lines.map((one) => h("li", {}, told("why", one))));
      because = lines.find((one) => one.values.standard === estimate.indices[0]?.standard && one.parts.length) ?? null;
      fillHead();
    } catch (error) {
      if (!why.children.length) show(why, h("li", { class: "bad" }, fault(error)));
    }
  }

  async function fillCameras() {
    if (!state.stations.get(id)?.cameras || !state.site.pictures) return;
    // A browser tells every refusal as an error: what is known to be refused is not asked for.
    if (!may("frames")) return refusedPictures(true);
    if (blind !== null && blind === key.get()) return refusedPictures(false);
    try {
      const found = (await get(`pictures?station=${id}`)).cameras;
      if (ended || !found.length) return;
      camerasBox.hidden = false;
      const made = [];
      for (const one of found) {
        let heat = heated.has(one.camera);
        const image = h("img", { alt: t("camera.alt", { camera: one.camera, station: nameOf(id) }), width: 224 });
        const band = one.far_band ? h("i", { class: "band", style: {
          top: `${100 * one.far_band[0]}%`, height: `${100 * (one.far_band[1] - one.far_band[0])}%`,
          left: `${100 * one.far_band[2]}%`, width: `${100 * (one.far_band[3] - one.far_band[2])}%` } }) : null;
        const scale = h("div", { class: "heatscale", hidden: true });
        const load = async () => {
          const { url, headers } = await fileOf(heat && one.heat ? one.heat : one.image);
          image.onload = () => URL.revokeObjectURL(url);
          image.src = url;
          scale.hidden = !heat;
          if (!heat) return;
          const [most, end] = ["most", "end"].map((name) => Number(headers.get(`x-heat-${name}`)));
          show(scale, heatScale(headers.get("x-heat-way"), most, end, headers.get("x-heat-fields")));
        };
        await load();
        made.push(h("figure", {}, h("div", { class: "frame" }, image, band),
          h("figcaption", {}, h("b", {}, one.camera), ` · ${moment(one.at, zone)} (${ago(new Date(one.at), now())})`,
            one.usable === false ? h("span", { class: "bad" }, ` · ${t("camera.unusable")}: ${one.reasons.map((reason) => coded("reason", reason)).join(", ")}`) : "",
            band ? h("span", { class: "dim" }, ` · ${t("camera.band")}`) : ""),
          one.heat ? h("button", { type: "button", "aria-pressed": String(heat), onclick: async (event) => {
            heat = !heat;
            if (heat) heated.add(one.camera);
            else heated.delete(one.camera);
            event.target.setAttribute("aria-pressed", String(heat));
            await load();
          } }, t("camera.heat")) : null, scale));
      }
      if (!ended) show(cameras, made, h("p", { class: "dim" }, t("camera.privacy")));
    } catch (error) {
      if (!ended && (error.status === 401 || error.status === 403)) {
        blind = key.get();
        refusedPictures(error.status === 401);
      }
    }
  }

  function refusedPictures(without) {
    camerasBox.hidden = false;
    show(cameras, h("p", { class: "dim" }, t(without ? "camera.key" : "camera.denied")));
  }

  async function fillPlot() {
    const mine = `${what} ${range}`;
    const since = new Date(now() - RANGES[range] * 3600000).toISOString().slice(0, 19);
    notes.fill(`${since}Z`);
    let made;
    try {
      made = await get(`series?station=${id}&what=${what}&since=${since}Z&points=500`);
    } catch (error) {
      if (!plot) show(plotted, h("p", { class: "bad" }, fault(error)));
      return;
    }
    if (ended || mine !== `${what} ${range}`) return;
    if (!made.at.length) {
      plot?.close();
      plot = null;
      show(plotted, h("p", { class: "dim" }, t("chart.empty")));
      show(below);
      return;
    }
    const unit = what === "index" ? { unit: t("points"), factor: 1 } : unitOf(what);
    const before = plot;
    plot = await chart(made, unit, zone);
    if (ended) return plot.close();
    show(plotted, plot.element);
    before?.close();
    show(
      below,
      plot.cut !== null ? h("p", { class: "dim" }, t("chart.cut", { value: number(plot.cut), unit: unit.unit })) : null,
      made.span_s ? h("p", { class: "dim" }, t("chart.span", { minutes: number(made.span_s / 60) })) : null,
      what === "index" ? null : [h("h3", {}, t("station.timeline")), timeline(made, zone)],
      h("p", { class: "dim" }, csvLink(`/api/v1/series.csv?station=${id}&since=${since}Z`, `${id}-${since.slice(0, 10)}.csv`)),
    );
  }

  /** A link asks without a key: where there is one, the file is fetched with it. */
  function csvLink(path, name) {
    const said = h("span", { class: "bad", role: "status" });
    const link = h("a", { href: path, download: name, onclick: async (event) => {
      if (!key.get()) return;
      event.preventDefault();
      show(said);
      try {
        const { url } = await fileOf(path);
        h("a", { href: url, download: name }).click();
        setTimeout(() => URL.revokeObjectURL(url), 60000);
      } catch (error) {
        show(said, ` ${fault(error)}`);
      }
    } }, t("station.csv"));
    return [link, said];
  }

  function choose() {
    const button = (name, text, chosen, pick) => h("button", { type: "button", "aria-pressed": String(chosen), onclick: () => { pick(); choose(); fillPlot(); forecast.fill(what); } }, text);
    show(
      choices,
      h("div", { role: "group", "aria-label": t("station.what") }, ["index", ...Object.keys(LABELS)].map((name) => button(name, name === "index" ? "AQI" : LABELS[name], what === name, () => { what = name; }))),
      h("div", { role: "group", "aria-label": t("station.range") }, Object.keys(RANGES).map((name) => button(name, t(`range.${name}`), range === name, () => { range = name; }))),
    );
    history.replaceState(null, "", `?what=${what}&range=${range}`);
  }

  choose();
  fillHead();
  explain();
  fillCameras();
  fillPlot();
  forecast.fill(what);
  const stop = onChange((ids) => {
    fillHead();
    if (ids.has(id)) {
      explain();
      fillPlot();
    }
  });
  const ages = setInterval(fillHead, 10000);
  const pictures = setInterval(fillCameras, 30000);
  const foretold = setInterval(() => forecast.fill(what), 60000);
  return {
    title: nameOf(id),
    close: () => {
      ended = true;
      stop();
      clearInterval(ages);
      clearInterval(pictures);
      clearInterval(foretold);
      forecast.close();
      plot?.close();
    },
  };
}

/** Who carried an imputed value, in shares; of the neighbours those by name that it listens to most. */
function carried(one, neighbours) {
  const named = Object.keys(neighbours ?? {}).slice(0, NAMED).map((id) => nameOf(id));
  return carriers(one.weights ?? {}, named.length ? { neighbours: ` (${named.join(", ")})` } : {}) || t(`method.${one.method}`);
}

/** What the colours over a picture mean: points of the index by which a field `way`, from none to `end`. */
function heatScale(way, most, end, fields) {
  return [
    h("span", { class: "ramp", "aria-hidden": "true" }),
    h("span", { class: "ticks", "aria-hidden": "true" }, [0, end / 2, end].map((one) => h("span", {}, number(one, 2)))),
    h("span", { class: "dim" }, t(`camera.${way}`, { most: number(end, 2), fields: (fields ?? "").replace("x", " × ") })),
    most < end ? h("span", { class: "dim" }, t("camera.faint", { most: number(most, 2) })) : null,
  ];
}

function refused(all) {
  const found = Object.entries(all ?? {});
  return found.length ? h("span", { class: "bad", lang: "en" }, ` ${found.map(([sensor, why]) => `${sensor}: ${why}`).join("; ")}`) : "";
}

function advice(category) {
  const { text, lang } = adviceOf(category);
  return h("p", { lang }, text);
}

function share(id) {
  if (!state.site.open_scopes.includes("read")) return h("p", { class: "dim" }, t("share.closed"));
  const frame = `<iframe src="${location.origin}/widget/${id}" width="320" height="170" title="${nameOf(id).replace(/"/g, "&quot;")}"></iframe>`;
  return [
    h("p", {}, h("img", { src: `/badge/${id}.svg`, alt: t("share.badge"), height: 22 })),
    h("label", { for: "embed" }, t("share.frame")),
    h("textarea", { id: "embed", readonly: true, rows: 3 }, frame),
  ];
}

