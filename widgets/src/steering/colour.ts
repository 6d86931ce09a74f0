// What colours the replies: nothing, how unlikely the unsteered model finds a token, or a feature's activation.

import { SparseRows } from "../shared/arrays";
import { button, field, h, QUIET } from "../shared/dom";
import { put } from "../shared/model";
import { count, glyphs, number } from "../shared/text";
import type { Boxes } from "./boxes";
import type { Shown, Values } from "./replies";
import type { Detail, Model, SteeringState } from "./state";
import { featuresOf } from "./units";

export const MOST_UNLIKELY = 8; // nats at the end of the colour scale

export interface Colouring {
  values(turn: number, column: number): Values;
  top: number;
  note: string; // why there is no colour, in words
}

/** How the tokens that are shown are coloured. */
export function colouring(shown: Shown, by: string, feature: number): Colouring {
  if (by === "unlikely") {
    const values = (turn: number, column: number) => shown.exchanges[turn]?.replies[column]?.nll ?? null;
    const any = shown.exchanges.some((e) => e.replies.some((r) => r.nll.length > 0));
    const note = any
      ? ""
      : shown.writing
        ? "Colours come when the replies are finished."
        : "These replies were not read back.";
    return { values, top: MOST_UNLIKELY, note };
  }
  const rows =
    by === "feature"
      ? (shown.details ?? []).map((turn) => turn.map((detail) => (detail ? rowsOf(detail).column(feature) : null)))
      : [];
  let top = 0;
  for (const turn of rows) for (const values of turn) for (const value of values ?? []) top = Math.max(top, value);
  return {
    values: (turn, column) => rows[turn]?.[column] ?? null,
    top,
    note: by === "feature" && top === 0 ? why(shown, rows.flat().some(Boolean), feature) : "",
  };
}

function why(shown: Shown, any: boolean, feature: number): string {
  if (shown.details === null) return "Only the latest run has feature activations.";
  if (any) return `Feature ${feature} does not fire on these replies.`;
  return shown.writing ? "Colours come when the replies are finished." : "These replies have no feature activations.";
}

const known = new WeakMap<Detail, SparseRows>();
export function rowsOf(detail: Detail): SparseRows {
  const rows = known.get(detail) ?? SparseRows.from(detail);
  known.set(detail, rows);
  return rows;
}

export interface ColourLine {
  element: HTMLElement;
  draw(shown: Shown, how: Colouring): void;
}

const CHOICES: [string, string, string][] = [
  ["none", "nothing", ""],
  ["unlikely", "how unlikely", "how unlikely the unsteered model finds each token"],
  ["feature", "a feature", "how strongly a feature fires on each token"],
];

export function colourLine(model: Model, boxes: Boxes): ColourLine {
  let features: number[] = [];
  const choices = CHOICES.map(([value, words, title]) => {
    const press = button(words, "", () => {
      const untouched =
        value === "feature" && model.get("colour_feature") === 0 && features[0] !== undefined && !features.includes(0);
      put<SteeringState>(model, { ...(untouched ? { colour_feature: features[0] } : {}), colour_by: value });
    });
    press.title = title;
    press.dataset.by = value;
    return press;
  });
  const group = h("span", { class: "sk-choice", role: "group", "aria-label": "Colour by" }, ...choices);
  const box = h("input", { type: "number", min: 0, step: 1, ...QUIET });
  const choose = (feature: number) => put<SteeringState>(model, { colour_feature: feature, colour_by: "feature" });
  boxes.number(box, (v) => Number.isInteger(v) && v >= 0 && v < model.get("n_features"), choose);
  box.addEventListener("keydown", (event) => event.stopPropagation());
  const boxField = field("Feature", box);
  const named = h("code", { class: "sk-named" });
  const chips = h("span", { class: "sk-chips", role: "group", "aria-label": "Features of these conditions" });
  const [high, unit] = [h("span"), h("span", { class: "sk-soft" })];
  const scale = h(
    "span",
    { class: "sk-scale", role: "img" },
    h("span", {}, "0"),
    h("span", { class: "sk-ramp" }),
    high,
    unit,
  );
  const note = h("span", { class: "sk-soft sk-colour-note" });
  const element = h(
    "div",
    { class: "sk-colour" },
    h("span", { class: "sk-field-name" }, "Colour by"),
    group,
    scale,
    note,
    boxField,
    named,
    chips,
  );
  let listed = "";

  const draw = (shown: Shown, how: Colouring) => {
    const [by, feature] = [model.get("colour_by"), model.get("colour_feature")];
    for (const press of choices) press.setAttribute("aria-pressed", String(press.dataset.by === by));
    boxes.fill(box, String(feature));
    box.max = String(model.get("n_features") - 1);
    box.title = `0 to ${count(model.get("n_features") - 1)}`;
    box.disabled = false;
    features = featuresOf(shown.conditions);
    boxField.hidden = chips.hidden = by !== "feature" || shown.details === null;
    named.textContent = features.includes(feature) ? "" : glyphs(model.get("about")[String(feature)]?.name ?? "");
    named.hidden = boxField.hidden || named.textContent === "";
    const wanted = JSON.stringify([features, features.map((f) => model.get("about")[String(f)]?.name)]);
    if (wanted !== listed) {
      listed = wanted;
      chips.replaceChildren(...features.map((f) => chip(model, f, choose)));
    }
    for (const press of chips.querySelectorAll<HTMLElement>("button"))
      press.setAttribute("aria-pressed", String(Number(press.dataset.feature) === feature));
    scale.hidden = by === "none" || how.note !== "";
    high.textContent = by === "unlikely" ? String(MOST_UNLIKELY) : number(how.top);
    unit.textContent = by === "unlikely" ? "nats, unsteered model" : "activation";
    scale.setAttribute("aria-label", `Colour scale from 0 to ${high.textContent} ${unit.textContent}`);
    note.textContent = how.note;
    note.hidden = how.note === "";
  };
  return { element, draw };
}

/** A feature as a button that colours the replies by it. */
export function chip(
  model: Model,
  feature: number,
  choose: (feature: number) => void,
  value?: number,
): HTMLButtonElement {
  const press = button("", "sk-chip", () => choose(feature));
  const name = model.get("about")[String(feature)]?.name ?? "";
  press.append(h("b", {}, String(feature)));
  if (name) press.append(h("span", { class: "sk-name" }, glyphs(name)));
  if (value !== undefined) press.append(h("span", { class: "sk-num" }, number(value)));
  press.dataset.feature = String(feature);
  const fires = value === undefined ? "" : `, activation ${number(value)}`;
  press.setAttribute(
    "aria-label",
    `Feature ${feature}${fires}${name ? `, promotes ${name}` : ""}; colour the replies by it`,
  );
  return press;
}
