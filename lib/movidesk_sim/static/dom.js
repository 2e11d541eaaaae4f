// Elements of the page. What comes from outside enters it as text alone: nothing here parses markup.

/** An element: `attributes` by name ("text": its text; a function: a listener), then its children. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** One of the page's symbols. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", "#" + name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const byId = id => document.getElementById(id);

/** Sets a text, an attribute or a property only where it differs: what stays the same is not drawn again, and keeps the focus. */
export function setText(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/**
 * The children of `parent` become those of `items`, in order. A child stays as long as its item's key is there, so that a button
 * keeps the focus and a recording goes on playing. create(item) returns {node, update(item)}.
 */
export function keep(parent, items, keyOf, create) {
  const old = parent.kept ?? new Map();
  const kept = new Map(items.map(item => [String(keyOf(item)), old.get(String(keyOf(item))) ?? create(item)]));
  for (const [key, row] of old) if (!kept.has(key)) row.node.remove();
  let place = parent.firstElementChild;
  items.forEach(item => {
    const row = kept.get(String(keyOf(item)));
    row.update(item);
    if (row.node === place) place = place.nextElementSibling;
    else parent.insertBefore(row.node, place);
  });
  parent.kept = kept;
}
