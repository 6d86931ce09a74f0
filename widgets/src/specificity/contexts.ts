// False alarms, misses and hits to read, and to mark "counts" or "does not count" with keys alone.

import "./contexts.css";
import { button, h, NO_SHORTCUTS, rovingIndex, uniqueId } from "../shared/dom";
import { formatAligned, formatCount, formatNumber } from "../shared/numbers";
import { textDirection, tokenText, tokenWithBytes } from "../shared/tokens";
import type { At } from "./curve";
import type { Mark, MarkedContext, Model } from "./state";

type Group = "alarm" | "miss" | "hit";

const GROUPS: { group: Group; name: string; summary: string }[] = [
  { group: "alarm", name: "False alarms", summary: "It fires off the concept, strongest first." },
  {
    group: "miss",
    name: "Misses",
    summary:
      "Silent or below the threshold on the concept; silent ones first, of these tokens that it mostly fires on.",
  },
  { group: "hit", name: "Hits", summary: "It fires on the concept, weakest first." },
];
const PAUSE = 80; // milliseconds without another threshold before the list follows
const MARKS: Record<string, boolean | null> = { c: true, x: false, u: null };

export interface ContextsView {
  element: HTMLElement;
  /** Other contexts; with marks or a threshold alone, rows stay as they are. */
  draw(): void;
  drawMarks(): void;
  /** `moving`: more will follow at once, so that the list waits for a pause while the counts follow. */
  setThreshold(at: At | null, moving?: boolean): void;
}

const keyOf = (context: { at: number; unit: string }): string => `${context.unit} ${context.at}`;

/** What a context is at a threshold: nothing where the feature is rightly below it. */
export function groupAt(context: MarkedContext, threshold: number): Group | null {
  const fires = context.activation > 0 && context.activation >= threshold;
  if (context.group === "false alarm") return fires ? "alarm" : null;
  return fires ? "hit" : "miss";
}

/** `tell` sends Python a message and returns whether a kernel can take it. */
export function contextsView(model: Model, tell: (message: object) => boolean): ContextsView {
  const pending = new Map<string, boolean | null>(); // marks that Python has not confirmed yet
  const rowOf = new Map<MarkedContext, HTMLElement>();
  let shown: Group = "alarm";
  let threshold = 0;
  let totals: Record<Group, number> = { alarm: 0, miss: 0, hit: 0 };
  let focused = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const grid = h("div", { class: "sk-context-grid", role: "grid", id: uniqueId("contexts"), "aria-label": "Contexts" });
  const tabs = GROUPS.map(({ group, name }) => {
    const tab = h("button", { type: "button", role: "tab", "aria-controls": grid.id, ...NO_SHORTCUTS });
    tab.append(h("span", {}, name), " ", h("small"));
    tab.addEventListener("click", () => show(group));
    return tab;
  });
  const tabList = h("div", { class: "sk-tabs", role: "tablist", "aria-label": "Where it is right and wrong" }, ...tabs);
  const summary = h("p", { class: "sk-muted" });
  const said = h("output", { class: "sk-visually-hidden", "aria-live": "polite" });
  const undo = button("Undo mark", "sk-button", () => tell({ kind: "undo" }));
  const renew = button("List anew", "sk-button", () => tell({ kind: "contexts" }));
  const nMarks = h("span", { class: "sk-muted sk-num" });
  const kbd = (key: string) => h("kbd", {}, key);
  const keys = h(
    "p",
    { class: "sk-keys" },
    h("span", {}, kbd("j"), kbd("k"), " or arrows: move"),
    h("span", {}, kbd("c"), " counts"),
    h("span", {}, kbd("x"), " does not count"),
    h("span", {}, kbd("u"), " no mark"),
    h("span", {}, kbd("z"), " undo"),
    h("span", {}, kbd("r"), " list anew"),
  );
  const bar = h("div", { class: "sk-mark-bar" }, keys, h("span", { class: "sk-buttons" }, nMarks, undo, renew));
  const empty = h("p", { class: "sk-empty" });
  const heading = h("h4", {}, "Contexts to read and to mark");
  const element = h(
    "section",
    { class: "sk-marking", "aria-label": "Contexts" },
    heading,
    tabList,
    summary,
    bar,
    grid,
    empty,
    said,
  );

  const visible = () => {
    const here = model.get("contexts").filter((context) => groupAt(context, threshold) === shown);
    const silent = (context: MarkedContext) => Number(context.group !== "miss");
    return here.sort((a, b) => silent(a) - silent(b)); // where it is silent before where it is weak
  };
  const rows = () => visible().flatMap((context) => rowOf.get(context) ?? []);
  const markOf = (context: MarkedContext): boolean | null => {
    const key = keyOf(context);
    if (pending.has(key)) return pending.get(key) ?? null;
    const mark = model.get("marks").find((m: Mark) => keyOf(m) === key);
    return mark ? mark.counts : null;
  };
  const drawRow = (context: MarkedContext) => {
    const row = rowOf.get(context);
    if (!row) return;
    const mark = markOf(context);
    row.dataset.mark = mark === null ? "" : mark ? "counts" : "not";
    const badge = row.querySelector(".sk-mark");
    if (badge) badge.textContent = mark === null ? "" : mark ? "\u2713 counts" : "\u2717 does not";
    for (const element of row.querySelectorAll<HTMLElement>("button"))
      element.setAttribute("aria-pressed", String(mark !== null && element.dataset.counts === String(mark)));
  };
  const mark = (context: MarkedContext, counts: boolean | null) => {
    if (!model.get("live") || !tell({ kind: "mark", at: context.at, unit: context.unit, counts })) return;
    pending.set(keyOf(context), counts);
    drawRow(context);
    said.textContent = counts === null ? "no mark" : counts ? "counts" : "does not count";
  };
  const focusRow = (i: number) => {
    const all = rows();
    focused = Math.max(0, Math.min(all.length - 1, i));
    for (const [n, row] of all.entries()) row.tabIndex = n === focused ? 0 : -1;
    all[focused]?.focus();
  };
  const build = (context: MarkedContext): HTMLElement => {
    const row = contextRow(context, model.get("scores").max ?? 0, (counts) => {
      mark(context, counts);
      row.focus();
    });
    rowOf.set(context, row);
    return row;
  };

  grid.addEventListener("keydown", (event) => {
    const all = visible();
    const row = event.target instanceof Element ? event.target.closest<HTMLElement>("[role=row]") : null;
    const current = all.findIndex((context) => rowOf.get(context) === row);
    const context = all[current];
    if (!context || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { forward: ["ArrowDown", "j", "J"], backward: ["ArrowUp", "k", "K"] };
    const next = rovingIndex(event, current, all.length, moves);
    if (next !== null) return focusRow(next);
    const key = event.key.toLowerCase();
    const counts = MARKS[key];
    if (counts !== undefined) {
      mark(context, counts);
      if (counts !== null) focusRow(current + 1);
    } else if (key === "z") tell({ kind: "undo" });
    else if (key === "r") tell({ kind: "contexts" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  grid.addEventListener("focusin", (event) => {
    const all = rows();
    const at = all.findIndex((row) => row.contains(event.target as Node));
    if (at < 0) return;
    focused = at;
    for (const [n, row] of all.entries()) row.tabIndex = n === at ? 0 : -1;
  });
  tabList.addEventListener("keydown", (event) => {
    const current = tabs.indexOf(event.target as HTMLButtonElement);
    const next = rovingIndex(event, current, tabs.length, { forward: ["ArrowRight"], backward: ["ArrowLeft"] });
    if (next === null) return;
    show(GROUPS[next]?.group ?? "alarm");
    tabs[next]?.focus();
  });

  const drawTabs = () => {
    for (const [i, { group }] of GROUPS.entries()) {
      const tab = tabs[i];
      if (!tab) continue;
      tab.setAttribute("aria-selected", String(group === shown));
      tab.tabIndex = group === shown ? 0 : -1;
      const count = tab.querySelector("small");
      if (count) count.textContent = formatCount(totals[group]);
    }
  };
  const drawRows = () => {
    const contexts = visible();
    const wanted = contexts.map((context) => rowOf.get(context) ?? build(context));
    const same = wanted.length === grid.childElementCount && wanted.every((row, i) => grid.children[i] === row);
    if (!same) grid.replaceChildren(...wanted);
    for (const context of contexts) drawRow(context);
    focused = Math.max(0, Math.min(focused, wanted.length - 1));
    for (const [n, row] of wanted.entries()) row.tabIndex = n === focused ? 0 : -1;
    const about = GROUPS.find(({ group }) => group === shown);
    const part =
      totals[shown] > contexts.length
        ? ` ${formatCount(contexts.length)} of ${formatCount(totals[shown])} are listed.`
        : "";
    summary.textContent = `${about?.summary ?? ""}${part}`;
    empty.textContent = `No ${about?.name.toLowerCase() ?? ""} at this threshold.`;
    empty.hidden = contexts.length > 0;
    grid.hidden = contexts.length === 0;
  };
  const drawMarks = () => {
    const marks = model.get("marks");
    for (const [key, counts] of pending) {
      const known = marks.find((m) => keyOf(m) === key);
      if ((known ? known.counts : null) === counts) pending.delete(key);
    }
    if (model.get("refused")) pending.clear();
    const [live, n] = [model.get("live"), marks.length];
    nMarks.textContent = n === 0 ? "" : `${n} marked: ${marks.filter((m) => m.counts).length} count`;
    undo.disabled = model.get("n_undo") === 0;
    renew.hidden = !live || n === 0;
    undo.hidden = !live;
    keys.hidden = !live;
    for (const context of rowOf.keys()) drawRow(context);
  };
  function show(group: Group): void {
    shown = group;
    focused = 0;
    drawTabs();
    drawRows();
  }
  return {
    element,
    drawMarks,
    setThreshold(at, moving = false) {
      threshold = at?.threshold ?? 0;
      const nPositive = model.get("scores").n_positive ?? 0;
      totals = at ? { alarm: at.n - at.hits, hit: at.hits, miss: nPositive - at.hits } : totals;
      drawTabs();
      clearTimeout(timer);
      if (moving) timer = setTimeout(drawRows, PAUSE);
      else drawRows();
    },
    draw() {
      rowOf.clear();
      focused = 0;
      threshold = model.get("threshold");
      const first = GROUPS.find(({ group }) => model.get("contexts").some((c) => groupAt(c, threshold) === group));
      shown = first?.group ?? "alarm";
      drawTabs();
      drawRows();
      drawMarks();
    },
  };
}

function contextRow(context: MarkedContext, max: number, mark: (counts: boolean | null) => void): HTMLElement {
  const tokens = context.tokens.map((token, i) => {
    const activation = context.acts[i] ?? 0;
    const className = token === "" ? "sk-token sk-continued" : "sk-token";
    const span = h(i === context.centre ? "mark" : "span", { class: className }, tokenText(token));
    if (activation > 0) {
      span.style.setProperty("--a", (max > 0 ? Math.min(1, activation / max) : 0).toFixed(3));
      span.title = `${tokenWithBytes(context.tokens, i, context.bytes)}  ${formatNumber(activation)}`;
    }
    return span;
  });
  const press = (text: string, label: string, counts: boolean) => {
    const element = button(text, "sk-subtle", () =>
      mark(element.getAttribute("aria-pressed") === "true" ? null : counts),
    );
    element.dataset.counts = String(counts);
    element.setAttribute("aria-label", label);
    element.title = label;
    element.tabIndex = -1;
    return element;
  };
  const labels = Object.entries(context.labels).map(([name, value]) => `${name}: ${value}`);
  if (context.document >= 0) labels.push(`document ${context.document}`);
  return h(
    "div",
    { class: "sk-context", role: "row", tabindex: -1, ...NO_SHORTCUTS },
    h(
      "div",
      { class: "sk-num", role: "gridcell", title: "activation on the framed token" },
      formatAligned(context.activation),
    ),
    h(
      "div",
      { class: "sk-words", role: "gridcell" },
      h("div", { class: "sk-tokens", dir: textDirection(context.tokens) }, ...tokens),
      h("div", { class: "sk-labels" }, ...labels.map((label) => h("span", {}, label))),
    ),
    h(
      "div",
      { class: "sk-marks", role: "gridcell" },
      h("span", { class: "sk-mark" }),
      h("span", { class: "sk-buttons" }, press("\u2713", "Counts", true), press("\u2717", "Does not count", false)),
    ),
  );
}
