// Elements from plain values. Text is always a text node: nothing that a station sends is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** An HTML element: h("p", {class: "dim"}, "text", other). */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** An SVG element. */
export function s(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

/** A table that is a card for each row where there is no room for columns: each cell knows its column's name. */
export function cards(table) {
  const names = [...table.tHead.rows[0].cells].map((one) => one.textContent);
  for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, n) => { cell.dataset.label = names[n]; });
  table.classList.add("as-cards");
  return table;
}

/** Show these in place of what an element has. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}
