// The page's words, numbers, ages and units, in the language that was chosen or that the browser asks for.

import { clock } from "./api.js";

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", hi: "हिन्दी", ne: "नेपाली", zh: "中文" };
const CHOSEN = "skyfuse-language";
const UNITS = "skyfuse-units";
let english = {};
let words = {};
export let language = "en";

async function load(name) {
  const answer = await fetch(`/static/words/${name}.json`, { cache: "no-cache" });
  return answer.ok ? answer.json() : {};
}

export async function speak(name) {
  const asked = name ?? new URLSearchParams(location.search).get("lang") ?? localStorage.getItem(CHOSEN);
  const wanted = [asked, ...(navigator.languages ?? [])].filter(Boolean).map((one) => one.toLowerCase().split("-")[0]);
  language = wanted.find((one) => one in LANGUAGES) ?? "en";
  if (name) localStorage.setItem(CHOSEN, name);
  if (!Object.keys(english).length) english = await load("en");
  words = language === "en" ? english : await load(language);
  document.documentElement.lang = language;
}

/** A phrase; {name} in it is filled in. */
export function t(key, values = {}) {
  const text = words[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

/** The words of a key as they stand, places and all; undefined where there are none. */
export function phrase(key) {
  return words[key] ?? english[key];
}

/** A code of the server's in words of the page, where it knows any; else `otherwise`. */
export function coded(kind, code, otherwise = code) {
  const key = `${kind}.${code}`;
  return words[key] ?? english[key] ?? otherwise;
}

/** What went wrong: of a code that the page knows in its language; the server's own words are English. */
export function fault(error) {
  return language === "en" ? error.message : coded("problem", error.code, error.message);
}

/** The locale of numbers and times: that of the browser, where it is of the chosen language. */
function locale() {
  const found = (navigator.languages ?? []).find((one) => one.toLowerCase().startsWith(language)) ?? language;
  // One kind of digits: marks, codes and times of the standards have these in every language.
  return new Intl.Locale(found, { numberingSystem: "latn" }).toString();
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const options = Math.abs(value) >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits };
  return new Intl.NumberFormat(locale(), options).format(value);
}

/** A number with its sign: what adds, and what takes off. */
export function signed(value) {
  return `${value < 0 ? "−" : "+"}${number(Math.abs(value))}`;
}

/** Shares that make a whole as whole per cents that do, too: the largest remainders are rounded up. */
export function percents(shares) {
  const parts = shares.map((share) => Math.round(1e6 * share) / 1e4);
  const whole = parts.map(Math.floor);
  const due = Math.round(parts.reduce((sum, one) => sum + one, 0)) - whole.reduce((sum, one) => sum + one, 0);
  const order = parts.map((one, n) => n).sort((a, b) => parts[b] - whole[b] - (parts[a] - whole[a]));
  for (const n of order.slice(0, due)) whole[n]++;
  return whole.map((one) => percent(one / 100));
}

export function percent(share) {
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 0 }).format(share);
}

/** How long ago a moment was: "3 min ago". */
export function ago(moment, now) {
  const seconds = Math.max(0, Math.round((now - moment) / 1000));
  if (seconds < 90) return before(seconds, "second");
  if (seconds < 5400) return before(Math.round(seconds / 60), "minute");
  if (seconds < 129600) return before(Math.round(seconds / 3600), "hour");
  return before(Math.round(seconds / 86400), "day");
}

/** The browser's own words where it has the language; browsers come without some. */
function before(count, unit) {
  if (!Intl.RelativeTimeFormat.supportedLocalesOf(language).length) return t(`ago.${unit}`, { count: number(count) });
  return new Intl.RelativeTimeFormat(locale(), { style: "short", numeric: "always" }).format(-count, unit);
}

/** The locale of dates and the form of their month; in numbers where the browser has not the language: 2026-11-25. */
export function dates() {
  return Intl.DateTimeFormat.supportedLocalesOf(language).length ? { where: locale(), month: "short" } : { where: "sv", month: "2-digit" };
}

/** A moment in a station's zone, with its date where that is not today's. */
export function moment(value, zone = "UTC", full = false) {
  const at = new Date(value);
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: zone, dateStyle: "short" });
  const today = !full && day.format(at) === day.format(new Date(Date.now() + clock.skew));
  const { where, month } = dates();
  return new Intl.DateTimeFormat(where, {
    timeZone: zone, hour: "2-digit", minute: "2-digit", timeZoneName: "short",
    ...(today ? {} : { year: "numeric", month, day: month === "short" ? "numeric" : month }),
  }).format(at);
}

export const LABELS = { pm25: "PM2.5", pm10: "PM10", no2: "NO₂", so2: "SO₂", co: "CO", o3: "O₃" };
let perPpb = {};

export function setFactors(found) {
  perPpb = found ?? {};
}

export const units = {
  get: () => localStorage.getItem(UNITS) ?? "auto",
  set: (value) => localStorage.setItem(UNITS, value),
};

function inPpb(name) {
  if (!(name in perPpb)) return false;
  const asked = units.get();
  return asked === "ppb" || (asked === "auto" && /-US$/i.test(navigator.language ?? ""));
}

/** A concentration in the unit of the reader: {value, unit, factor}. */
export function unitOf(name) {
  return inPpb(name) ? { unit: "ppb", factor: 1 / perPpb[name] } : { unit: "µg/m³", factor: 1 };
}

/** The number of a concentration in that unit. */
export function amount(name, value) {
  return number(value * unitOf(name).factor);
}

export function concentration(name, value) {
  return `${amount(name, value)}\u00a0${unitOf(name).unit}`;
}

/** The name of a category: in the page's language, in the standard's own file, or in English. */
export function categoryName(category) {
  const key = `category.${category.name.en.toLowerCase().replace(/[^a-z]+/g, "_")}`;
  return category.name[language] ?? words[key] ?? category.name.en;
}

/** What to do in a category, and the language in which it is there: {text, lang}. */
export function adviceOf(category) {
  const text = category.advice[language];
  return text ? { text, lang: language } : { text: category.advice.en, lang: "en" };
}

