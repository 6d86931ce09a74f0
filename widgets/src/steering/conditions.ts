// One box per condition: its name, its features with their strengths, an instruction, and what Python has fixed.

import { button, h, QUIET, uid } from "../shared/dom";
import { put } from "../shared/model";
import { alone, count, glyphs } from "../shared/text";
import type { Boxes } from "./boxes";
import type { About, Condition, Model, SteeringState, Strength } from "./state";
import { amount, amounts, convert, elsewhere, fraction, isPlain, nextCondition, nextFeature, track } from "./units";

const NOBODY: About = { name: "", max: 0, recommended: null };

export interface ConditionsView {
  element: HTMLElement;
  draw(): void;
}

export function conditionsView(
  model: Model,
  boxes: Boxes,
  sweep: (feature: number, condition: number) => void,
): ConditionsView {
  const list = h("div", { class: "sk-conditions" });
  const views: BoxView[] = [];
  const write = (conditions: Condition[]) => put<SteeringState>(model, { conditions });
  const edit: Edit = (at, change) => write(model.get("conditions").map((c, i) => (i === at ? change(c) : c)));
  const forget = () => boxes.forget(list); // rows stand for other features once one is gone
  const add = button("+ condition", "sk-quiet sk-add", () => {
    write([...model.get("conditions"), nextCondition(model.get("conditions"))]);
    enter(views[views.length - 1]?.name);
  });
  const remove = (at: number) => {
    forget();
    for (const view of views) view.told = false;
    write(model.get("conditions").filter((_, i) => i !== at));
    add.focus({ preventScroll: true });
  };

  const draw = () => {
    const conditions = model.get("conditions");
    while (views.length > conditions.length) views.pop()?.element.remove();
    while (views.length < conditions.length) {
      const view = boxView(model, boxes, views.length, { edit, remove, sweep, forget });
      views.push(view);
      list.append(view.element);
    }
    for (const [i, view] of views.entries()) view.draw(conditions[i] as Condition, conditions.length > 1);
  };
  return { element: h("div", { class: "sk-conditions-part" }, list, add), draw };
}

/** To a box that was just made, its suggestion marked so that typing replaces it. */
function enter(box: HTMLInputElement | undefined): void {
  box?.focus();
  box?.select();
}

type Edit = (at: number, change: (condition: Condition) => Condition) => void;
interface Acts {
  edit: Edit;
  remove(at: number): void;
  sweep(feature: number, condition: number): void;
  forget(): void;
}

interface BoxView {
  element: HTMLElement;
  name: HTMLInputElement;
  told: boolean; // the instruction's box is open though nothing is in it
  draw(condition: Condition, removable: boolean): void;
}

function boxView(model: Model, boxes: Boxes, at: number, acts: Acts): BoxView {
  const now = () => model.get("conditions")[at] as Condition;
  const name = h("input", {
    type: "text",
    class: "sk-title",
    "aria-label": "Name of the condition",
    spellcheck: "false",
    autocomplete: "off",
    ...QUIET,
  });
  boxes.text(
    name,
    (value) => acts.edit(at, (c) => ({ ...c, name: value.trim() })),
    (value) => value.trim() !== "",
  );
  name.addEventListener("blur", () => {
    boxes.release(name); // an empty name is not kept
    boxes.fill(name, now()?.name ?? "");
  });
  const plain = h("span", { class: "sk-soft sk-plain" }, "the model as it is");
  const rows: RowView[] = [];
  const list = h("div", { class: "sk-rows" });

  const instruction = h("input", {
    type: "text",
    "aria-label": "Instruction",
    placeholder: "A sentence put behind the prompt",
    autocomplete: "off",
    ...QUIET,
  });
  boxes.text(instruction, (value) => acts.edit(at, (c) => ({ ...c, instruction: value })));
  const untell = button("\u00d7", "sk-quiet sk-cross", () => {
    view.told = false;
    boxes.release(instruction);
    if (now().instruction === "") view.draw(now(), model.get("conditions").length > 1);
    else acts.edit(at, (c) => ({ ...c, instruction: "" }));
    tell.focus({ preventScroll: true });
  });
  untell.setAttribute("aria-label", "Remove the instruction");
  const told = h("div", { class: "sk-told" }, h("span", { class: "sk-soft" }, "Instruction"), instruction, untell);
  const edits = h("p", { class: "sk-edits sk-soft" });

  const more = button("+ feature", "sk-quiet", () => {
    const [unit, norm] = [model.get("unit"), model.get("residual_norm")];
    const feature = nextFeature(model.get("conditions"), at);
    const max = model.get("about")[String(feature)]?.max ?? 0;
    const strength = now().features.at(-1)?.strength ?? track(unit, { max, residual: norm }, 0, null).start;
    acts.edit(at, (c) => ({ ...c, features: [...c.features, { feature, strength }] }));
    enter(rows[rows.length - 1]?.number);
  });
  const tell = button("+ instruction", "sk-quiet", () => {
    view.told = true;
    view.draw(now(), model.get("conditions").length > 1);
    instruction.focus();
  });
  const cross = button("\u00d7", "sk-quiet sk-cross", () => acts.remove(at));
  const head = h("div", { class: "sk-condition-head" }, name, plain, h("div", { class: "sk-acts" }, more, tell, cross));
  const element = h("div", { class: "sk-condition", role: "group" }, head, list, told, edits);

  const view: BoxView = {
    element,
    name,
    told: false,
    draw(condition, removable) {
      element.setAttribute("aria-label", condition.name);
      element.classList.toggle("sk-steered", !isPlain(condition));
      boxes.fill(name, condition.name);
      name.size = Math.min(40, Math.max(6, condition.name.length + 1)); // browsers that cannot size it by its content
      boxes.fill(instruction, condition.instruction);
      const open = view.told || condition.instruction !== "";
      told.hidden = !open;
      tell.hidden = open;
      plain.hidden = open || !isPlain(condition);
      edits.textContent = condition.edits;
      edits.hidden = condition.edits === "";
      cross.hidden = !removable;
      cross.setAttribute("aria-label", `Remove ${condition.name}`);
      cross.title = "Remove this condition";
      while (rows.length > condition.features.length) rows.pop()?.element.remove();
      while (rows.length < condition.features.length) {
        const row = rowView(model, boxes, at, rows.length, acts, () => more.focus({ preventScroll: true }));
        rows.push(row);
        list.append(row.element);
      }
      for (const [i, row] of rows.entries()) row.draw(condition.features[i] as Strength, condition.name);
    },
  };
  return view;
}

interface RowView {
  element: HTMLElement;
  number: HTMLInputElement;
  draw(entry: Strength, condition: string): void;
}

function rowView(model: Model, boxes: Boxes, at: number, which: number, acts: Acts, removed: () => void): RowView {
  const now = () => model.get("conditions")[at]?.features[which] as Strength;
  const set = (change: Partial<Strength>) =>
    acts.edit(at, (c) => ({ ...c, features: c.features.map((f, i) => (i === which ? { ...f, ...change } : f)) }));

  const feature = h("input", { type: "number", min: 0, step: 1, "aria-label": "Feature", ...QUIET });
  const free = (v: number) => !model.get("conditions")[at]?.features.some((f, i) => i !== which && f.feature === v);
  boxes.number(
    feature,
    (v) => Number.isInteger(v) && v >= 0 && v < model.get("n_features") && free(v),
    (v) => set({ feature: v }),
  );
  const promoted = h("code");
  const slider = h("input", { type: "range", ...QUIET });
  slider.addEventListener("input", () => {
    boxes.hold(slider);
    set({ strength: Number(slider.value) });
  });
  slider.addEventListener("change", () => {
    boxes.release(slider);
    draw(now());
  });
  const tip = h("span", { class: "sk-spoken", id: uid("tip") });
  const tick = button("", "sk-tick", () => {
    const { about, value } = facts(now());
    if (about.recommended !== null && value !== null) set({ strength: Number(value.toPrecision(6)) });
  });
  tick.setAttribute("aria-describedby", tip.id);
  const strength = h("input", { type: "number", step: "any", "aria-label": "Strength as a number", ...QUIET });
  boxes.number(
    strength,
    () => true,
    (v) => set({ strength: v }),
  );
  const others = h("span", { class: "sk-others sk-soft sk-num" });
  const sweep = button("Sweep", "sk-button sk-sweep", () => acts.sweep(now().feature, at));
  const cross = button("\u00d7", "sk-quiet sk-cross", () => {
    acts.forget();
    acts.edit(at, (c) => ({ ...c, features: c.features.filter((_, i) => i !== which) }));
    removed();
  });
  cross.title = "Remove this feature";
  const element = h(
    "div",
    { class: "sk-row", role: "group" },
    feature,
    promoted,
    h("div", { class: "sk-slide" }, slider, tick, tip),
    strength,
    others,
    sweep,
    cross,
  );

  const facts = (entry: Strength) => {
    const about = model.get("about")[String(entry.feature)] ?? NOBODY;
    const worth = { max: about.max, residual: model.get("residual_norm") };
    const value = about.recommended === null ? null : convert(about.recommended, "norm", model.get("unit"), worth);
    return { about, worth, value };
  };
  let [low, measured] = [0, ""]; // a slider that has gone below zero keeps that side while it is in use
  const draw = (entry: Strength) => {
    const unit = model.get("unit");
    const { about, worth, value } = facts(entry);
    const range = track(unit, worth, entry.strength, value);
    const same = measured === `${unit} ${entry.feature} ${range.max}`;
    measured = `${unit} ${entry.feature} ${range.max}`;
    range.min = low = same ? Math.min(low, range.min) : range.min;
    slider.min = String(range.min);
    slider.max = String(range.max);
    slider.step = String(range.step);
    boxes.fill(slider, String(entry.strength));
    const [zero, here] = [fraction(0, range), fraction(entry.strength, range)];
    slider.style.setProperty("--from", Math.min(zero, here).toFixed(4));
    slider.style.setProperty("--to", Math.max(zero, here).toFixed(4));
    slider.setAttribute("aria-valuetext", amount(entry.strength, unit));
    tick.hidden = value === null;
    const words = value === null ? "" : `recommended: ${amount(about.recommended ?? 0, "norm")}`;
    tip.textContent = tick.title = words;
    tick.style.setProperty("--at", fraction(value ?? 0, range).toFixed(4));
    if (words) slider.setAttribute("aria-describedby", tip.id);
    else slider.removeAttribute("aria-describedby");
    boxes.fill(strength, String(Number(entry.strength.toPrecision(4))));
    others.textContent = elsewhere(entry.strength, unit, worth);
    boxes.fill(feature, String(entry.feature));
    feature.max = String(model.get("n_features") - 1);
    feature.title = `0 to ${count(model.get("n_features") - 1)}, each once in a condition`;
    promoted.textContent = glyphs(about.name);
    promoted.title = about.name ? `promotes ${alone(about.name).replaceAll("\u2423", " ").trim()}` : "";
    element.setAttribute("aria-label", `Feature ${entry.feature}`);
    slider.setAttribute("aria-label", `Strength of feature ${entry.feature}`);
    tick.setAttribute("aria-label", `Set feature ${entry.feature} to its recommended strength`);
    sweep.title = `Write with feature ${entry.feature} at ${amounts(model.get("sweep_strengths"), unit)}, beside the unsteered text`;
    sweep.setAttribute("aria-label", `Sweep feature ${entry.feature}`);
    sweep.disabled = model.get("running") || !model.get("live");
    cross.setAttribute("aria-label", `Remove feature ${entry.feature}`);
  };
  return { element, number: feature, draw };
}
