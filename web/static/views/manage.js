// Stations: their records, and who waits to be let in; for keys with the scope admin.

import { all, get, send } from "../api.js";
import { keyForm } from "../app.js";
import { cards, h, show } from "../dom.js";
import { now, refresh } from "../state.js";
import { ago, fault, moment, t } from "../words.js";

const KINDS = ["reference", "low-cost", "camera-only", "simulated"];
/** Fields of a form: [name in the record, type, attributes]. */
const FIELDS = [
  ["name", "text", {}], ["city", "text", {}],
  ["latitude", "number", { min: -90, max: 90, step: "any" }], ["longitude", "number", { min: -180, max: 180, step: "any" }],
  ["timezone", "text", { placeholder: "Asia/Kathmandu" }], ["region", "text", {}],
  ["standards", "text", { placeholder: "us-epa-2024" }],
];
/** Servers follow the topic of records: what was changed is known there a moment later. */
const KNOWN_MS = 900;
let forms = 0;

export async function open(main) {
  const said = h("p", { role: "status", class: "said" });
  const waiting = h("ul", { class: "plain" }, h("li", { class: "dim" }, "…"));
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("manage.records") });
  const editing = h("section", { class: "card", hidden: true });
  const adding = h("div", {});
  let ended = false;

  async function fill() {
    let records;
    try {
      records = await all("records?limit=1000", "records");
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) return show(said, fault(error));
      show(main, h("h1", {}, t("nav.manage")), h("p", {}, t("manage.key")), keyForm());
      return;
    }
    if (!ended) show(table, records.length ? asTable(records) : h("p", { class: "dim" }, t("manage.norecords")));
  }

  async function fillWaiting() {
    try {
      const found = (await get("waiting")).waiting;
      if (ended || waiting.contains(document.activeElement)) return;
      show(waiting, found.length ? found.map(waits) : h("li", { class: "dim" }, t("manage.nobody")));
    } catch (error) {
      if (!ended) show(waiting, h("li", { class: "bad" }, fault(error)));
    }
  }

  /** Do it, say what became of it, and show what is there then. */
  async function act(work, words) {
    show(said, t("manage.doing"));
    said.className = "said";
    try {
      const answer = await work();
      show(said, typeof words === "function" ? words(answer) : words);
      close();
      setTimeout(() => { refresh().catch(() => {}); fill(); fillWaiting(); }, KNOWN_MS);
      return true;
    } catch (error) {
      said.className = "said bad";
      // What is wrong with a field only the server's own words tell.
      show(said, error.status === 422 ? error.message : fault(error));
      return false;
    }
  }

  function waits(one) {
    return h("li", {}, h("b", {}, one.station), ` · ${t("manage.sent", { readings: one.readings, pictures: one.pictures })}`,
      h("span", { class: "dim" }, ` · ${t("manage.last", { ago: ago(new Date(one.last), now()) })} · ${one.adapters.join(", ")}${one.origins.length ? ` · ${one.origins.join(", ")}` : ""} `),
      h("button", { type: "button", onclick: () => edit({ station: one.station }, async (fields) =>
        act(() => send("POST", `records/${one.station}/adopt`, fields), (made) => t("manage.adopted", { station: made.station, count: made.published }))) }, t("manage.adopt")));
  }

  function asTable(records) {
    return cards(h("table", {},
      h("thead", {}, h("tr", {}, ["station", "change", "name", "kind", "place", "timezone", "standards", "since"].map((one) => h("th", { scope: "col" }, t(`manage.${one}`))))),
      h("tbody", {}, records.map((one) => h("tr", {},
        h("th", { scope: "row" }, h("a", { href: `/stations/${one.station}`, "data-go": "" }, one.station)),
        h("td", { class: "acts" },
          h("button", { type: "button", "aria-label": `${t("manage.edit")}: ${one.station}`, onclick: () => edit(one, (fields, query) =>
            act(() => send("PATCH", `records/${one.station}${query}`, fields), t("manage.edited", { station: one.station }))) }, t("manage.edit")),
          retire(one.station)),
        h("td", {}, [one.name, one.city].filter(Boolean).join(", ") || "–"),
        h("td", {}, t(`manage.kind.${one.kind}`)),
        h("td", {}, one.latitude === null ? "–" : `${Math.abs(one.latitude)}° ${one.latitude < 0 ? "S" : "N"}, ${Math.abs(one.longitude)}° ${one.longitude < 0 ? "W" : "E"}`),
        h("td", {}, one.timezone),
        h("td", {}, one.standards.join(", ")),
        h("td", {}, one.valid_from ? moment(one.valid_from, one.timezone, true) : t("manage.always"), one.earlier.length ? h("span", { class: "dim" }, ` ${t("manage.earlier", { count: one.earlier.length })}`) : ""))))));
  }

  /** Two presses, the second within a few seconds: nothing brings back what was learned. */
  function retire(station) {
    let sure = null;
    const button = h("button", { type: "button", "aria-label": `${t("manage.retire")}: ${station}`, onclick: () => {
      if (!sure) {
        button.textContent = t("manage.sure");
        button.setAttribute("aria-label", `${t("manage.sure")} ${station}`);
        sure = setTimeout(() => {
          sure = null;
          button.textContent = t("manage.retire");
          button.setAttribute("aria-label", `${t("manage.retire")}: ${station}`);
        }, 5000);
        return;
      }
      clearTimeout(sure);
      act(() => send("DELETE", `records/${station}`), t("manage.retired", { station }));
    } }, t("manage.retire"));
    return button;
  }

  function close() {
    show(editing);
    editing.hidden = true;
  }

  function edit(record, done) {
    const known = record.kind !== undefined;
    show(editing, h("h2", {}, `${t(known ? "manage.edit" : "manage.adopt")}: ${record.station}`), form(record, done, known));
    editing.hidden = false;
    editing.querySelector("input")?.focus();
  }

  function form(record, done, known) {
    const id = `f${++forms}`;
    const before = (name) => (name === "standards" ? (record.standards ?? []).join(", ") : record[name] ?? "");
    const inputs = {};
    const label = (name, input) => h("label", { for: input.id }, h("span", {}, t(`manage.${name}`)), input);
    const shown = FIELDS.map(([name, type, more]) => {
      inputs[name] = h("input", { id: `${id}-${name}`, type, value: String(before(name)), ...more });
      return label(name, inputs[name]);
    });
    inputs.kind = h("select", { id: `${id}-kind` }, KINDS.map((one) => h("option", { value: one, selected: one === (record.kind ?? "low-cost") }, t(`manage.kind.${one}`))));
    shown.push(label("kind", inputs.kind));
    const station = record.station === undefined ? h("input", { id: `${id}-station`, required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", maxlength: 64 }) : null;
    const since = h("input", { id: `${id}-since`, type: "datetime-local" });
    const moved = h("input", { id: `${id}-moved`, type: "checkbox" });
    return h("form", {
      class: "fields", onsubmit: async (event) => {
        event.preventDefault();
        const fields = station ? { station: station.value.trim() } : {};
        for (const [name, input] of Object.entries(inputs)) {
          const text = input.value.trim();
          if (text === String(known || name === "kind" ? (name === "kind" ? record.kind ?? "low-cost" : before(name)) : "")) continue;
          if (name === "standards") fields[name] = text.split(/[\s,]+/).filter(Boolean);
          else if (name === "latitude" || name === "longitude") fields[name] = text === "" ? null : Number(text);
          else fields[name] = text;
        }
        const query = new URLSearchParams();
        if (since.value) query.set("from", new Date(since.value).toISOString());
        if (moved.checked) query.set("moved", "true");
        if (await done(fields, query.size ? `?${query}` : "")) event.target.reset();
      },
    },
    station ? h("label", { for: station.id }, h("span", {}, t("manage.station")), station) : null, shown,
    known ? [h("label", { for: since.id }, h("span", {}, t("manage.from")), since), h("label", { for: moved.id, class: "check" }, moved, h("span", {}, t("manage.moved")))] : null,
    h("p", {}, h("button", {}, t(known ? "manage.save" : record.station ? "manage.adopt" : "manage.add")), " ",
      record.station ? h("button", { type: "button", onclick: close }, t("manage.cancel")) : null));
  }

  show(
    main,
    h("h1", {}, t("nav.manage")), h("p", { class: "dim" }, t("manage.about")), said,
    h("section", { class: "card" }, h("h2", {}, t("manage.waiting")), waiting),
    editing,
    h("section", { class: "card" }, h("h2", {}, t("manage.records")), table),
    h("section", { class: "card" }, h("details", {}, h("summary", {}, t("manage.new")), adding)),
  );
  show(adding, form({}, (fields) => act(() => send("POST", "records", fields), t("manage.added", { station: fields.station })), false));
  await fill();
  fillWaiting();
  const timer = setInterval(fillWaiting, 30000);
  return {
    title: t("nav.manage"),
    close: () => {
      ended = true;
      clearInterval(timer);
    },
  };
}
