// What people said of a station's data: read by all, written with the scope write.

import { get, send } from "../api.js";
import { h, show } from "../dom.js";
import { may } from "../state.js";
import { fault, LABELS, moment, t } from "../words.js";

/** A card that is hidden while there is nothing in it: {element, fill(since)}. */
export function notesCard(id, zone) {
  const list = h("ul", { class: "plain" });
  const said = h("p", { role: "status" });
  const writes = may("write");
  const element = h("section", { class: "card", hidden: !writes }, h("h2", {}, t("notes.title")), list, writes ? form() : null, said);
  const mine = [];

  async function fill(since) {
    let found;
    try {
      found = (await get(`notes?station=${id}&since=${since}`)).notes;
    } catch {
      return; // the notice says what is away
    }
    // A note is in the store a moment after it was taken.
    const all = [...mine.filter((one) => !found.some((other) => other.id === one.id)), ...found];
    element.hidden = !writes && !all.length;
    show(list, all.length ? all.map((one) => h("li", {},
      h("b", {}, `${moment(one.since, zone)} – ${moment(one.until, zone)}`),
      h("span", { class: one.kind === "invalid" ? "bad" : "dim" }, ` ${t(`notes.${one.kind}`)}${one.sensor ? ` · ${one.sensor}` : ""}${one.parameter ? ` · ${LABELS[one.parameter] ?? one.parameter}` : ""}`),
      h("p", {}, one.text))) : h("li", { class: "dim" }, t("notes.none")));
  }

  function form() {
    const local = (date) => new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    const end = new Date();
    const text = h("input", { id: "note-text", required: true, maxlength: 1000, placeholder: t("notes.example") });
    const since = h("input", { id: "note-since", type: "datetime-local", required: true, value: local(new Date(end - 3600000)) });
    const until = h("input", { id: "note-until", type: "datetime-local", required: true, value: local(end) });
    return h("details", {}, h("summary", {}, t("notes.write")), h("form", {
      class: "fields", onsubmit: async (event) => {
        event.preventDefault();
        const times = [since, until].map((one) => new Date(one.value).toISOString());
        try {
          mine.unshift(await send("POST", "notes", { station: id, since: times[0], until: times[1], text: text.value }));
          text.value = "";
          show(said, t("notes.taken"));
          fill(times[0]);
        } catch (error) {
          show(said, error.status === 401 || error.status === 403 ? t("notes.key") : error.status === 422 ? error.message : fault(error));
        }
      },
    },
    h("label", { for: "note-text" }, h("span", {}, t("notes.text")), text),
    h("label", { for: "note-since" }, h("span", {}, t("notes.since")), since),
    h("label", { for: "note-until" }, h("span", {}, t("notes.until")), until),
    h("p", {}, h("button", {}, t("notes.save")))));
  }

  return { element, fill };
}
