// A small map on a canvas: outline of the land, stations; tiles where the operator has set some.
// What it shows stands in the list beside it too, for those who cannot see it.

import { h } from "./dom.js";
import { drawn, OUTLINES, statusWords } from "./marks.js";
import { isStale, nameOf, state } from "./state.js";
import { t } from "./words.js";

const TILE = 256;
const MIN_ZOOM = 1;
const MAX_ZOOM = 17;

function project([longitude, latitude]) {
  const sine = Math.sin((Math.max(-85.05, Math.min(85.05, latitude)) * Math.PI) / 180);
  return [longitude / 360 + 0.5, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
}

function latitudeOf(y) {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

let outline = null;

/** The countries as paths in units of the whole world, from TopoJSON. */
async function land() {
  if (outline) return outline;
  const topology = await (await fetch("/static/vendor/countries.json")).json();
  const { scale, translate } = topology.transform;
  const arcs = topology.arcs.map((arc) => {
    let x = 0;
    let y = 0;
    return arc.map(([dx, dy]) => {
      x += dx;
      y += dy;
      return project([x * scale[0] + translate[0], y * scale[1] + translate[1]]);
    });
  });
  const path = new Path2D();
  const ring = (numbers) => {
    let first = true;
    for (const number of numbers) {
      const points = number < 0 ? [...arcs[~number]].reverse() : arcs[number];
      for (const [x, y] of first ? points : points.slice(1)) {
        if (first) path.moveTo(x, y);
        else path.lineTo(x, y);
        first = false;
      }
    }
    path.closePath();
  };
  for (const country of topology.objects.countries.geometries) {
    const shapes = country.type === "Polygon" ? [country.arcs] : country.arcs ?? [];
    for (const shape of shapes) shape.forEach(ring);
  }
  outline = path;
  return path;
}

const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20];

/** Stations so few that each has room for its mark, moved where need be. */
const FEW = 60;
/** Marks may come as near as this to each other, in radii: further in, one hides the number of another. */
const APART = 2.3;

/**
 * Where marks are drawn, so that none hides the number of another. `spots`, the worst first: {at: [x, y], ...};
 * gives them as {..., at, place, full}: `place` is where the station is, `full` false for a mark without room,
 * which is drawn as a dot. A few marks are moved apart; among many the worse one keeps its place.
 */
export function arranged(spots, radius) {
  const apart = APART * radius;
  const found = spots.map((spot) => ({ ...spot, place: spot.at, at: [...spot.at], full: true }));
  const far = (one, other) => Math.hypot(one.at[0] - other.at[0], one.at[1] - other.at[1]);
  if (found.length <= FEW) {
    // Those in one place begin on a spiral, the same in every picture: from a point there is no way apart.
    found.forEach((one, n) => {
      if (!found.slice(0, n).some((other) => far(one, other) < 0.5)) return;
      one.at[0] += Math.sqrt(n) * Math.cos(2.4 * n);
      one.at[1] += Math.sqrt(n) * Math.sin(2.4 * n);
    });
  }
  for (let turn = 0; found.length <= FEW && turn < 60; turn++) {
    let moved = false;
    for (let n = 1; n < found.length; n++) {
      for (let m = 0; m < n; m++) {
        const [one, other] = [found[m].at, found[n].at];
        const distance = far(found[m], found[n]) || 1;
        if (distance >= apart - 0.5) continue;
        // In small steps: who is pushed at once ends in a row.
        const push = 0.2 * (apart - distance);
        const [dx, dy] = [(other[0] - one[0]) / distance, (other[1] - one[1]) / distance];
        one[0] -= dx * push;
        one[1] -= dy * push;
        other[0] += dx * push;
        other[1] += dy * push;
        moved = true;
      }
    }
    if (!moved) break;
  }
  // Who has no room yet: looked for in cells as wide as marks are apart, since there may be thousands.
  const cells = new Map();
  const near = (x, y) => [-1, 0, 1].flatMap((dx) => [-1, 0, 1].flatMap((dy) => cells.get(`${x + dx} ${y + dy}`) ?? []));
  const reach = 0.92 * apart;
  for (const spot of found) {
    const [x, y] = spot.at.map((one) => Math.floor(one / reach));
    spot.full = !near(x, y).some((one) => far(one, spot) < reach);
    if (spot.full) cells.set(`${x} ${y}`, [...(cells.get(`${x} ${y}`) ?? []), spot]);
  }
  return found;
}

/** Whether two boxes [left, top, right, bottom] share a place. */
function meet(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

/** The map as an element; `update()` draws what is known now, `open(id)` is called for a chosen station. */
export function stationMap(open) {
  const canvas = h("canvas", { tabindex: "0", role: "img" });
  const tip = h("div", { class: "tip", hidden: true });
  const credit = h("p", { class: "credit" });
  const box = h(
    "div", { class: "map" }, canvas, tip,
    h("div", { class: "zoom" },
      h("button", { type: "button", "aria-label": t("map.in"), onclick: () => zoomBy(1) }, "+"),
      h("button", { type: "button", "aria-label": t("map.out"), onclick: () => zoomBy(-1) }, "−"),
      h("button", { type: "button", "aria-label": t("map.fit"), onclick: () => { fitted = false; paint(); } }, "⤢")),
    credit,
  );
  let width = 0;
  let height = 0;
  let zoom = 2;
  let centre = [0.5, 0.4];
  let fitted = false;
  let touched = false;
  let path = null;
  let queued = false;
  let spots = [];
  const tiles = new Map();

  land().then((found) => { path = found; paint(); }).catch(() => {});

  function scale() {
    return TILE * 2 ** zoom;
  }

  function at([x, y]) {
    return [(x - centre[0]) * scale() + width / 2, (y - centre[1]) * scale() + height / 2];
  }

  function fit() {
    const all = [...state.stations.values()].map((one) => one.place).filter(Boolean).map(project);
    if (!all.length || !width) return;
    // One place that was typed wrongly shall not make the others a dot.
    const middle = [0, 1].map((axis) => all.map((one) => one[axis]).sort((a, b) => a - b)[all.length >> 1]);
    const far = (one) => Math.hypot(one[0] - middle[0], one[1] - middle[1]);
    const usual = all.map(far).sort((a, b) => a - b)[Math.floor(0.75 * (all.length - 1))];
    const places = all.filter((one) => far(one) <= Math.max(15 * usual, 1e-6));
    const xs = places.map((one) => one[0]);
    const ys = places.map((one) => one[1]);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    centre = [(left + right) / 2, (top + bottom) / 2];
    const wide = Math.max(right - left, 1e-5);
    const high = Math.max(bottom - top, 1e-5);
    zoom = Math.min(13, Math.log2((width - 90) / wide / TILE), Math.log2((height - 90) / high / TILE));
    zoom = Math.max(MIN_ZOOM, zoom);
    fitted = true;
  }

  function zoomBy(step, around = [width / 2, height / 2]) {
    const next = Math.max(MIN_ZOOM, Math.min(MAX_ZOOM, zoom + step));
    const [dx, dy] = [around[0] - width / 2, around[1] - height / 2];
    centre = [centre[0] + dx / scale(), centre[1] + dy / scale()];
    zoom = next;
    centre = [centre[0] - dx / scale(), centre[1] - dy / scale()];
    touched = true;
    paint();
  }

  function move(dx, dy) {
    centre = [centre[0] - dx / scale(), Math.max(0, Math.min(1, centre[1] - dy / scale()))];
    touched = true;
    paint();
  }

  function paint() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = box;
    if (!clientWidth) return;
    if (canvas.width !== Math.round(clientWidth * ratio) || canvas.height !== Math.round(clientHeight * ratio)) {
      [width, height] = [clientWidth, clientHeight];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      if (!touched) fitted = false;
    }
    if (!fitted) fit();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = colour("--sea");
    pen.fillRect(0, 0, width, height);
    if (path) {
      pen.save();
      const [x, y] = at([0, 0]);
      pen.translate(x, y);
      pen.scale(scale(), scale());
      pen.fillStyle = colour("--land");
      pen.fill(path);
      pen.lineWidth = 1 / scale();
      pen.strokeStyle = colour("--border");
      pen.stroke(path);
      pen.restore();
    }
    if (state.site?.tiles) drawTiles(pen);
    else drawGrid(pen, colour("--line"), colour("--dim"));
    drawStations(pen, colour("--ink"), colour("--paper"));
    credit.textContent = state.site?.tiles ? state.site.tiles_credit : t("map.credit");
    canvas.setAttribute("aria-label", t("map.label", { count: spots.length }));
  }

  function drawGrid(pen, line, dim) {
    const perDegree = scale() / 360;
    const step = STEPS.find((one) => one * perDegree >= 110) ?? 45;
    const west = (centre[0] - width / 2 / scale() - 0.5) * 360;
    const east = (centre[0] + width / 2 / scale() - 0.5) * 360;
    const north = latitudeOf(centre[1] - height / 2 / scale());
    const south = latitudeOf(centre[1] + height / 2 / scale());
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    pen.strokeStyle = line;
    pen.fillStyle = dim;
    pen.lineWidth = 1;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    for (let one = Math.ceil(west / step) * step; one < east; one += step) {
      const [x] = at(project([one, 0]));
      pen.beginPath();
      pen.moveTo(Math.round(x) + 0.5, 0);
      pen.lineTo(Math.round(x) + 0.5, height);
      pen.stroke();
      // Where the scale stands there is no room.
      if (x < width - 190) pen.fillText(`${Math.abs(one).toFixed(digits)}° ${one < 0 ? "W" : "E"}`, x + 4, height - 24);
    }
    for (let one = Math.ceil(south / step) * step; one < north; one += step) {
      const [, y] = at(project([0, one]));
      pen.beginPath();
      pen.moveTo(0, Math.round(y) + 0.5);
      pen.lineTo(width, Math.round(y) + 0.5);
      pen.stroke();
      if (y < height - 44) pen.fillText(`${Math.abs(one).toFixed(digits)}° ${one < 0 ? "S" : "N"}`, 6, y - 4);
    }
    const metres = (40075017 * Math.cos((latitudeOf(centre[1]) * Math.PI) / 180)) / scale();
    const nice = [1, 2, 5].flatMap((n) => [10, 100, 1e3, 1e4, 1e5, 1e6].map((m) => n * m)).sort((a, b) => a - b);
    const length = nice.filter((one) => one / metres <= 120).pop() ?? 10;
    const [x, y] = [width - length / metres - 14, height - 28];
    pen.strokeStyle = dim;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(x, y - 5);
    pen.lineTo(x, y);
    pen.lineTo(x + length / metres, y);
    pen.lineTo(x + length / metres, y - 5);
    pen.stroke();
    pen.textAlign = "center";
    pen.fillText(length >= 1000 ? `${length / 1000} km` : `${length} m`, x + length / metres / 2, y - 6);
  }

  function drawTiles(pen) {
    const level = Math.max(0, Math.min(19, Math.round(zoom)));
    const size = scale() / 2 ** level;
    const first = [(centre[0] - width / 2 / scale()) * 2 ** level, (centre[1] - height / 2 / scale()) * 2 ** level].map(Math.floor);
    const count = 2 ** level;
    for (let x = first[0]; x <= first[0] + width / size + 1; x++) {
      for (let y = first[1]; y <= first[1] + height / size + 1; y++) {
        if (y < 0 || y >= count) continue;
        const address = state.site.tiles.replace("{z}", level).replace("{x}", ((x % count) + count) % count).replace("{y}", y);
        let tile = tiles.get(address);
        if (!tile) {
          tile = new Image();
          tile.onload = paint;
          tile.src = address;
          tiles.set(address, tile);
          if (tiles.size > 300) tiles.delete(tiles.keys().next().value);
        }
        if (tile.complete && tile.naturalWidth) pen.drawImage(tile, ...at([x / count, y / count]), size + 0.5, size + 0.5);
      }
    }
  }

  function drawStations(pen, ink, paper) {
    const radius = state.stations.size > 400 ? 9 : state.stations.size > 100 ? 12 : 17;
    const known = [];
    for (const [id, station] of state.stations) {
      const estimate = state.latest.get(id);
      if (!station.place) continue;
      const [x, y] = at(project(station.place));
      if (x > -30 && y > -30 && x < width + 30 && y < height + 30) known.push({ id, estimate, at: [x, y], worth: worth(estimate) });
    }
    known.sort((one, other) => other.worth - one.worth || one.id.localeCompare(other.id));
    const found = arranged(known, radius);
    pen.textAlign = "center";
    pen.lineWidth = 1.5;
    pen.strokeStyle = ink;
    for (const { at: [x, y], place } of found) {
      if (Math.hypot(x - place[0], y - place[1]) < 3) continue;
      pen.beginPath();
      pen.moveTo(...place);
      pen.lineTo(x, y);
      pen.stroke();
      pen.beginPath();
      pen.arc(...place, 2.5, 0, 2 * Math.PI);
      pen.fillStyle = ink;
      pen.fill();
    }
    // The worst lie on top, and are found first by a pointer.
    spots = [...found].reverse().sort((one, other) => one.full - other.full);
    for (const spot of spots) drawMark(pen, spot, spot.full ? radius : 0.45 * radius, ink, paper);
    if (state.stations.size <= 40) drawNames(pen, found, radius, ink, paper);
  }

  /** What is worse comes before what is better, and what is new before what is old. */
  function worth(estimate) {
    if (!estimate) return -2e6;
    return (isStale(estimate) ? -1e6 : 0) + (estimate.index?.index ?? -1);
  }

  function drawMark(pen, spot, radius, ink, paper) {
    const [x, y] = spot.at;
    const { shape, shade, ink: text, number, dashed } = drawn(spot.estimate);
    pen.beginPath();
    const outlined = OUTLINES[shape];
    if (outlined) outlined.forEach(([dx, dy], n) => (n ? pen.lineTo(x + dx * radius, y + dy * radius) : pen.moveTo(x + dx * radius, y + dy * radius)));
    else pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.closePath();
    pen.lineWidth = 4;
    pen.setLineDash([]);
    pen.strokeStyle = paper;
    pen.stroke();
    pen.fillStyle = shade;
    pen.fill();
    pen.lineWidth = 1.5;
    pen.strokeStyle = ink;
    pen.setLineDash(dashed ? [3, 2.5] : []);
    pen.stroke();
    pen.setLineDash([]);
    if (radius <= 8) return;
    pen.fillStyle = text;
    pen.font = `600 ${Math.round(radius * (number.length > 2 ? 0.74 : 0.86))}px system-ui, sans-serif`;
    pen.fillText(number, x, y + radius * (shape === "triangle" ? 0.62 : 0.3));
  }

  /** Names under, over or beside their marks, where there is room; the list has them all. */
  function drawNames(pen, found, radius, ink, paper) {
    pen.font = "600 12px system-ui, sans-serif";
    pen.lineWidth = 3;
    const taken = found.map(({ at: [x, y] }) => [x - radius, y - radius, x + radius, y + radius]);
    for (const spot of found) {
      const [x, y] = spot.at;
      const name = nameOf(spot.id);
      const half = pen.measureText(name).width / 2;
      const places = [[x, y + radius + 15], [x, y - radius - 9], [x + radius + half + 8, y + 4], [x - radius - half - 8, y + 4]];
      const boxOf = ([left, base]) => [left - half, base - 11, left + half, base + 3];
      const free = places.find((one) => !taken.some((other) => meet(boxOf(one), other)));
      if (!free) continue;
      taken.push(boxOf(free));
      pen.strokeStyle = paper;
      pen.strokeText(name, ...free);
      pen.fillStyle = ink;
      pen.fillText(name, ...free);
    }
  }

  function near(event) {
    const bounds = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    let best = null;
    for (const spot of spots) {
      const distance = Math.hypot(spot.at[0] - x, spot.at[1] - y);
      if (distance < 24 && (!best || distance <= best.distance)) best = { spot, distance };
    }
    return best?.spot ?? null;
  }

  let drag = null;
  /** Fingers on the map: id -> [x, y]. One that goes up or down scrolls the page, two move and scale the map. */
  const fingers = new Map();
  const pinch = () => {
    const [[x, y], [u, v]] = [...fingers.values()];
    return { middle: [(x + u) / 2, (y + v) / 2], wide: Math.max(20, Math.hypot(x - u, y - v)) };
  };
  const lift = (event) => fingers.delete(event.pointerId);
  canvas.addEventListener("pointercancel", (event) => {
    lift(event);
    drag = null;
  });
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    drag = fingers.size === 1 ? { x: event.clientX, y: event.clientY, far: 0 } : null;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (fingers.size === 2 && fingers.has(event.pointerId)) {
      const before = pinch();
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      const after = pinch();
      const bounds = canvas.getBoundingClientRect();
      move(after.middle[0] - before.middle[0], after.middle[1] - before.middle[1]);
      zoomBy(Math.log2(after.wide / before.wide), [after.middle[0] - bounds.left, after.middle[1] - bounds.top]);
      return;
    }
    if (drag) {
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      drag = { x: event.clientX, y: event.clientY, far: drag.far + Math.hypot(dx, dy) };
      if (drag.far > 4) move(dx, dy);
      return;
    }
    const spot = near(event);
    canvas.style.cursor = spot ? "pointer" : "grab";
    tip.hidden = !spot;
    if (spot) {
      tip.textContent = `${nameOf(spot.id)}: ${spot.estimate ? `AQI ${spot.estimate.index?.index ?? "–"} (${statusWords(spot.estimate)})` : statusWords(null)}`;
      tip.style.left = `${Math.min(spot.at[0] + 14, width - 200)}px`;
      tip.style.top = `${spot.at[1] - 34}px`;
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    lift(event);
    const spot = drag && drag.far <= 4 ? near(event) : null;
    drag = null;
    if (spot) open(spot.id);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const bounds = canvas.getBoundingClientRect();
    zoomBy(-Math.sign(event.deltaY) * 0.5, [event.clientX - bounds.left, event.clientY - bounds.top]);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[event.key]) move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoomBy(1);
    else if (event.key === "-") zoomBy(-1);
    else return;
    event.preventDefault();
  });
  const sizes = new ResizeObserver(paint);
  sizes.observe(box);
  return { element: box, update: paint, close: () => sizes.disconnect() };
}
