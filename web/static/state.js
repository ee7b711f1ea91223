// What is known now, and who wants to hear of it. Many events make one call: at most every 400 ms.

import { all, clock, get, key, listen } from "./api.js";

const TELL_MS = 400;
/** From this age of the newest window of all on it is said. */
export const BEHIND_MS = 900000;

export const state = {
  site: null,
  stations: new Map(), // id -> {properties, place: [longitude, latitude] | null}
  latest: new Map(), // id -> the newest window in brief
  alerts: new Map(), // id -> alert that is open
  /** Since when the stream is broken, and Kafka away; Date or null. */
  lostSince: null,
  kafkaSince: null,
  /** Workers that do not answer, or wait for an engine: {role, waits_for, since}. */
  workersAway: [],
  /** Workers that are minutes behind: {role, since}. */
  workersBehind: [],
  /** Whether the past is being worked off: what is old is no fault, and what is not there is no good news. */
  coming: true,
  denied: 0,
  /** When the last event came. */
  heardAt: null,
};

const listeners = new Set();
let changed = new Set();
let timer = null;

/** Call `told(ids)` after changes, `ids` a Set of stations; gives what ends it. */
export function onChange(told) {
  listeners.add(told);
  return () => listeners.delete(told);
}

function touch(id) {
  changed.add(id);
  timer ??= setTimeout(() => {
    timer = null;
    const ids = changed;
    changed = new Set();
    for (const told of listeners) told(ids);
  }, TELL_MS);
}

export function now() {
  return new Date(Date.now() + clock.skew);
}

function take(estimate) {
  const known = state.latest.get(estimate.station);
  if (known && (known.at > estimate.at || (known.at === estimate.at && known.revision > estimate.revision))) return;
  state.latest.set(estimate.station, estimate);
  touch(estimate.station);
}

/** Alerts that closed lately, id -> sequence: an older answer of the server's shall not open them again. */
const over = new Map();
const MOST_OVER = 1000;

function takeAlert(alert) {
  const sequence = state.alerts.get(alert.id)?.sequence ?? over.get(alert.id) ?? -1;
  if (sequence > alert.sequence) return;
  over.delete(alert.id);
  if (alert.active) state.alerts.set(alert.id, alert);
  else {
    state.alerts.delete(alert.id);
    over.set(alert.id, alert.sequence);
    if (over.size > MOST_OVER) over.delete(over.keys().next().value);
  }
  touch(alert.station);
}

/** All that are open; those that were so before these were asked for, and are not among them, have closed. */
function takeOpenAlerts(found, before) {
  const open = new Set(found.map((one) => one.id));
  for (const [id, one] of before) {
    if (open.has(id) || state.alerts.get(id) !== one) continue;
    state.alerts.delete(id);
    touch(one.station);
  }
  found.forEach(takeAlert);
}

export async function refresh() {
  const before = [...state.alerts];
  const [site, stations, latest, alerts] = await Promise.all([
    get("site"), all("stations", "features"), all("latest", "stations"), all("alerts?active=true&limit=500", "alerts"),
  ]);
  state.site = site;
  state.stations = new Map(stations.map((one) => [one.id, { ...one.properties, place: one.geometry?.coordinates ?? null }]));
  for (const id of [...state.latest.keys()]) if (!state.stations.has(id)) state.latest.delete(id);
  latest.forEach(take);
  takeOpenAlerts(alerts, before);
  touch("");
}

/** Whether a station's newest window is no news any more. */
export function isStale(estimate) {
  const limit = state.stations.get(estimate.station)?.stale_after_s ?? 900;
  return now() - new Date(estimate.at) > 1000 * limit;
}

/** End of the newest window of all; null where there is none. */
export function newest() {
  let found = null;
  for (const one of state.latest.values()) if (!found || one.at > found) found = one.at;
  return found;
}

/** Ids of all stations: those that have spoken, and those of which there is a record alone. */
export function everyone() {
  return [...new Set([...state.latest.keys(), ...state.stations.keys()])];
}

/** The category of an index block, as it is drawn; null where there is none. */
export function look(index) {
  if (!index || index.level === undefined || index.level === null) return null;
  const standard = state.site?.standards.find((one) => one.id === index.standard);
  return standard?.categories[index.level] ?? null;
}

/** Whether it is worth while to offer what takes a scope: nobody needs a key for it, or there is one. */
export function may(scope) {
  return Boolean(state.site?.open_scopes.includes(scope) || key.get());
}

export function nameOf(id) {
  return state.stations.get(id)?.name || id;
}

export function start() {
  listen(
    (name, data) => {
      state.heardAt = new Date();
      if (name === "estimate") {
        if (!state.stations.has(data.station)) setTimeout(() => refresh().catch(() => {}), 1000);
        take(data);
      } else if (name === "alert") takeAlert(data);
      else if (name === "pulse" || name === "hello") {
        clock.skew = new Date(data.now) - Date.now();
        const since = data.kafka_away_since ? new Date(data.kafka_away_since) : null;
        const workers = data.workers_away ?? [];
        const behind = data.workers_behind ?? [];
        const coming = Boolean(data.coming);
        if (name === "pulse" && (String(since) !== String(state.kafkaSince) || coming !== state.coming || JSON.stringify([workers, behind]) !== JSON.stringify([state.workersAway, state.workersBehind]))) {
          state.kafkaSince = since;
          state.workersAway = workers;
          state.workersBehind = behind;
          state.coming = coming;
          touch("");
        }
      }
      // From here on nothing is missed; what came between the first look and this is.
      if (name === "hello" || name === "reset") refresh().catch(() => {});
    },
    (open, status) => {
      state.denied = status === 401 || status === 403 ? status : 0;
      if (open && state.lostSince) {
        // Records and places may have changed meanwhile; events that were missed come by themselves.
        refresh().catch(() => {});
      }
      state.lostSince = open ? null : state.lostSince ?? new Date();
      touch("");
    },
  );
  setInterval(() => refresh().catch(() => {}), 300000);
}
