// A few words for building elements. Text always goes in as text nodes.

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

/** An element with attributes (false, null and undefined are left out; true is an empty attribute) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  assign(element, attributes);
  append(element, children);
  return element;
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  assign(element, attributes);
  append(element, children);
  return element;
}

/** JupyterLab's one-letter shortcuts reach any focused element that does not carry this attribute itself. */
export const QUIET = { "data-lm-suppress-shortcuts": "true" } as const;

export function button(label: string, className: string, onClick?: (event: MouseEvent) => void): HTMLButtonElement {
  const element = h("button", { type: "button", class: className, ...QUIET }, label);
  if (onClick) element.addEventListener("click", onClick);
  return element;
}

/** A labelled form control: the words stand before or above the control and belong to it. */
export const field = (label: string, control: HTMLElement, className = ""): HTMLLabelElement =>
  h("label", { class: `sk-field ${className}`.trim() }, h("span", { class: "sk-field-name" }, label), control);

let serial = 0;
export const uid = (prefix: string): string => `sk-${prefix}-${++serial}-${Math.random().toString(36).slice(2, 7)}`;

/** Arrow, Home and End keys move through `items` with one tab stop; returns the new index or null when the key is another. */
export function rove(
  event: KeyboardEvent,
  at: number,
  n: number,
  keys: { back: string[]; on: string[] },
): number | null {
  if (event.altKey || event.ctrlKey || event.metaKey) return null;
  let to: number;
  if (keys.on.includes(event.key)) to = Math.min(n - 1, at + 1);
  else if (keys.back.includes(event.key)) to = Math.max(0, at - 1);
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = n - 1;
  else return null;
  event.preventDefault();
  event.stopPropagation();
  return to;
}

function assign(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(element: Element, children: Child[]): void {
  for (const child of children) if (child) element.append(child);
}
