// Functions that build elements. Text always goes in as text nodes.

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
export const NO_SHORTCUTS = { "data-lm-suppress-shortcuts": "true" } as const;

export function button(label: string, className: string, onClick?: (event: MouseEvent) => void): HTMLButtonElement {
  const element = h("button", { type: "button", class: className, ...NO_SHORTCUTS }, label);
  if (onClick) element.addEventListener("click", onClick);
  return element;
}

/** A form control with its label. */
export const field = (label: string, control: HTMLElement, className = ""): HTMLLabelElement =>
  h("label", { class: `sk-field ${className}`.trim() }, h("span", { class: "sk-field-name" }, label), control);

let lastId = 0;
export const uniqueId = (prefix: string): string =>
  `sk-${prefix}-${++lastId}-${Math.random().toString(36).slice(2, 7)}`;

/** Where a key moves the focus among n items that share one tab stop; null for any other key. */
export function rovingIndex(
  event: KeyboardEvent,
  current: number,
  n: number,
  keys: { backward: string[]; forward: string[] },
): number | null {
  if (event.altKey || event.ctrlKey || event.metaKey) return null;
  let next: number;
  if (keys.forward.includes(event.key)) next = Math.min(n - 1, current + 1);
  else if (keys.backward.includes(event.key)) next = Math.max(0, current - 1);
  else if (event.key === "Home") next = 0;
  else if (event.key === "End") next = n - 1;
  else return null;
  event.preventDefault();
  event.stopPropagation();
  return next;
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
