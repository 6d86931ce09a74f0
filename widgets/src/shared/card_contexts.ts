// The contexts of a feature's card: one tab per group, each a list of short texts coloured by activation.

import { button, h, NO_SHORTCUTS, rovingIndex, uniqueId } from "./dom";
import { formatAligned, formatNumber } from "./numbers";
import { textDirection, tokenText, tokenWithBytes } from "./tokens";

export interface TokenContext {
  tokens: string[];
  bytes: Record<string, string>;
  acts: number[];
  centre: number;
  activation: number;
  document: number;
  labels: Record<string, string>;
}

export interface ContextGroup {
  name: string;
  size: string; // stands below the name
  unit: string; // of the size, for screen readers
  summary: string;
  contexts: TokenContext[];
}

const N_SHOWN = 10;

/** Tabs for the groups; `max` is the activation at full colour. */
export function contextTabs(groups: readonly ContextGroup[], max: number): HTMLElement {
  const panel = h("div", { class: "sk-panel", role: "tabpanel", id: uniqueId("panel"), tabindex: -1 });
  const tabs = groups.map(({ name, size, unit }, i) => {
    const tab = h("button", {
      type: "button",
      role: "tab",
      id: uniqueId("tab"),
      "aria-controls": panel.id,
      ...NO_SHORTCUTS,
    });
    const spoken = unit && h("span", { class: "sk-visually-hidden" }, ` ${unit}`);
    tab.append(h("span", {}, name), " ", h("small", {}, size, spoken));
    tab.addEventListener("click", () => show(i));
    return tab;
  });
  const show = (selected: number) => {
    const group = groups[selected];
    if (!group) return;
    for (const [i, tab] of tabs.entries()) {
      tab.setAttribute("aria-selected", String(i === selected));
      tab.tabIndex = i === selected ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", tabs[selected]?.id ?? "");
    const rows = group.contexts.map((context) => contextRow(context, max));
    const list = h("ol", { class: "sk-contexts" }, ...rows.slice(0, N_SHOWN));
    panel.replaceChildren(h("p", { class: "sk-muted" }, group.summary), list);
    if (rows.length <= N_SHOWN) return;
    const showAll = button(`Show all ${rows.length}`, "sk-button", () => {
      list.replaceChildren(...rows);
      showAll.remove();
      tabs[selected]?.focus({ preventScroll: true });
    });
    panel.append(showAll);
  };
  const tabList = h("div", { class: "sk-tabs", role: "tablist", "aria-label": "Contexts by activation" }, ...tabs);
  tabList.style.setProperty("--n", String(tabs.length));
  tabList.addEventListener("keydown", (event) => {
    const current = tabs.indexOf(event.target as HTMLButtonElement);
    const next = rovingIndex(event, current, tabs.length, { forward: ["ArrowRight"], backward: ["ArrowLeft"] });
    if (next === null) return;
    show(next);
    tabs[next]?.focus();
  });
  show(0);
  return h("section", {}, h("h4", {}, "Contexts"), tabList, panel);
}

function contextRow(context: TokenContext, max: number): HTMLElement {
  const tokens = context.tokens.map((token, i) => {
    const activation = context.acts[i] ?? 0;
    const className = token === "" ? "sk-token sk-continued" : "sk-token";
    const span = h(i === context.centre ? "mark" : "span", { class: className }, tokenText(token));
    const label = tokenWithBytes(context.tokens, i, context.bytes);
    if (activation > 0) {
      span.style.setProperty("--a", (max > 0 ? Math.min(1, activation / max) : 0).toFixed(3));
      span.title = `${label}  ${formatNumber(activation)}`;
    } else if (context.bytes[String(i)] !== undefined) span.title = label;
    return span;
  });
  const labels = Object.entries(context.labels).map(([name, value]) => `${name}: ${value}`);
  if (context.document >= 0) labels.push(`document ${context.document}`);
  return h(
    "li",
    {},
    h("span", { class: "sk-num", title: "activation on the framed token" }, formatAligned(context.activation)),
    h("div", { class: "sk-tokens", dir: textDirection(context.tokens) }, ...tokens),
    labels.length > 0 && h("div", { class: "sk-labels" }, ...labels.map((label) => h("span", {}, label))),
  );
}
