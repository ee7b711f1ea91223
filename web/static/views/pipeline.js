// Pipeline: broker, workers, how far behind they are, and what was refused.

import { get } from "../api.js";
import { keyForm } from "../app.js";
import { cards, h, show } from "../dom.js";
import { BEHIND_MS, now, state } from "../state.js";
import { ago, coded, fault, moment, number, t } from "../words.js";

const LETTERS_EVERY_MS = 60000;

/** What is wrong, in the page's words. */
function problems(health) {
  const found = health.workers.flatMap((one) => (!one.up ? [`${one.role} ${t("pipeline.down")}`] : one.waits_for ? [`${one.role}: ${t("pipeline.waits")} ${one.waits_for}`]
    : one.behind_since ? [`${one.role}: ${t("pipeline.lag")} ${lag(one)}`] : []));
  if (health.kafka !== "ok") found.unshift(`Kafka: ${t("pipeline.away", { since: ago(new Date(health.kafka_since), now()) })}`);
  if (found.length) return found;
  const old = health.newest && now() - new Date(health.newest) > BEHIND_MS;
  return [old ? t(state.coming ? "notice.catching" : "notice.behind", { since: moment(health.newest) }) : t("pipeline.reading")];
}

function lag(one) {
  return t("pipeline.records", { count: number(one.lag_messages), seconds: number(one.lag_s) });
}

export async function open(main) {
  const sums = h("div", { class: "tiles" });
  const workers = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("pipeline.workers") });
  const letters = h("div", {});
  show(
    main,
    h("h1", {}, t("nav.pipeline")), sums,
    h("section", { class: "card" }, h("h2", {}, t("pipeline.workers")), workers),
    h("section", { class: "card" }, h("h2", {}, t("pipeline.letters")), h("p", { class: "dim" }, t("pipeline.letters.about")), letters),
  );
  let refused = "";

  const tile = (name, text, bad = false) => h("div", { class: bad ? "tile bad" : "tile" }, h("span", { class: "dim" }, name), h("b", {}, text));

  async function fill() {
    let health;
    try {
      health = await get("health");
    } catch {
      return; // the notice says that the server is away
    }
    show(
      sums,
      tile(t("pipeline.status"), health.status === "ok" ? t("pipeline.ok") : problems(health).join("; "), health.status !== "ok"),
      tile("Kafka", health.kafka === "ok" ? t("pipeline.there") : t("pipeline.away", { since: ago(new Date(health.kafka_since), now()) }), health.kafka !== "ok"),
      tile(t("pipeline.newest"), health.newest ? `${moment(health.newest)} (${ago(new Date(health.newest), now())})` : "–"),
      tile(t("pipeline.stations"), number(health.stations)),
      tile(t("pipeline.streams"), number(health.streams)),
    );
    if (!health.workers.length) show(workers, h("p", { class: "dim" }, t("pipeline.unknown")));
    else {
      show(workers, cards(h("table", {},
        h("thead", {}, h("tr", {}, ["pipeline.role", "pipeline.state", "pipeline.lag", "pipeline.watermark", "pipeline.waits"].map((one) => h("th", { scope: "col" }, t(one))))),
        h("tbody", {}, health.workers.map((one) => h("tr", {},
          h("th", { scope: "row" }, one.role),
          h("td", { class: one.up ? "" : "bad" }, t(one.up ? "pipeline.up" : "pipeline.down"),
            one.down_since ? ` ${t("since", { at: moment(one.down_since) })} (${ago(new Date(one.down_since), now())})` : ""),
          h("td", { class: one.behind_since ? "num bad" : "num" }, one.up ? lag(one) : "–"),
          h("td", {}, one.watermark ? `${moment(one.watermark)} (${ago(new Date(one.watermark), now())})` : "–"),
          h("td", { class: one.waits_for ? "bad" : "", lang: "en" }, one.waits_for ? `${one.waits_for}, ${ago(new Date(one.waits_since), now())}` : "–")))))));
    }
    // A letter that is sent back is no new one: so they are looked at now and then as well.
    const seen = JSON.stringify([health.refused, Math.floor(Date.now() / LETTERS_EVERY_MS)]);
    if (seen !== refused && !letters.contains(document.activeElement)) {
      refused = seen;
      fillLetters(health.refused);
    }
  }

  async function fillLetters(counts) {
    const codes = Object.entries(counts).sort((a, b) => b[1] - a[1]);
    const sum = codes.length ? h("p", {}, codes.map(([code, count]) => h("span", { class: "code" }, `${coded("code", code)} ${count}`))) : h("p", { class: "dim" }, t("pipeline.noletters"));
    try {
      const found = (await get("dead-letters?limit=50")).letters;
      show(letters, sum, h("ul", { class: "plain" }, found.map((one) => h("li", { class: "letter" },
        h("b", {}, coded("code", one.code)), h("span", { class: "dim" }, ` ${one.stage} · ${moment(one.failed_at)} (${ago(new Date(one.failed_at), now())})`),
        one.redriven_at ? h("span", { class: "dim" }, ` · ${t("pipeline.redriven")}`) : "",
        h("p", { lang: "en" }, one.reason),
        h("code", {}, `skyfuse dlq show ${one.id}`), h("br"), h("code", {}, `skyfuse dlq redrive ${one.id}`)))));
    } catch (error) {
      show(letters, sum, error.status === 401 || error.status === 403 ? [h("p", { class: "dim" }, t("pipeline.key")), keyForm()] : h("p", { class: "bad" }, fault(error)));
    }
  }

  await fill();
  const timer = setInterval(fill, 5000);
  return { title: t("nav.pipeline"), close: () => clearInterval(timer) };
}
