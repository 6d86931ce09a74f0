// What colours the text: the title, the scale, the features with their colours, and what is set aside.

import { colourScale } from "../shared/charts/bars";
import { button, h } from "../shared/dom";
import { setTraits } from "../shared/model";
import { formatNumber, formatPercent, formatPlural } from "../shared/numbers";
import { chip } from "./chips";
import type { Colouring, Standout } from "./standouts";
import { type HighlightState, type Model, ofMaximum } from "./state";
import { slotName } from "./text_view";

export interface Legend {
  element: HTMLElement;
  draw(colouring: Colouring): void;
}

export function legend(model: Model): Legend {
  const title = h("span", { class: "sk-legend-title" });
  const scale = colourScale();
  const note = h("span", { class: "sk-muted" });
  const head = h("div", { class: "sk-legend" }, title, scale.element, note);
  const list = h("div", { class: "sk-standouts", role: "group", "aria-label": "Features that colour the text" });
  const aside = h("span");
  const toggle = button("", "sk-link", () => {
    setTraits<HighlightState>(model, all() ? { max_density: before } : { min_density: 0, max_density: 1 });
    toggle.focus();
  });
  const asideLine = h("p", { class: "sk-aside sk-muted" }, aside, toggle);
  const explanation = h("p", { class: "sk-muted sk-explanation" });
  const element = h("div", {}, head, list, asideLine, explanation);
  let before = 0.1;
  let drawn = "";
  const all = () => model.get("max_density") >= 1 && model.get("min_density") <= 0;

  const drawList = (shown: Standout[]) => {
    const key = JSON.stringify(shown);
    if (key === drawn) return; // a chip must not be replaced between the press and the release of a mouse button
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    const feature = focused instanceof HTMLElement ? focused.dataset.feature : undefined;
    drawn = key;
    list.replaceChildren(...shown.map((each, place) => legendChip(model, each, place, shown.length)));
    if (feature !== undefined) list.querySelector<HTMLElement>(`[data-feature="${feature}"]`)?.focus();
  };

  const drawAside = (colouring: Colouring) => {
    const reasons = new Map<string, number>();
    for (const why of model.get("excluded")) if (why) reasons.set(why, (reasons.get(why) ?? 0) + 1);
    const tokens = [...reasons].map(([why, n]) => (why === "not read" ? `${n} tokens not read` : formatPlural(n, why)));
    const density = model.get("max_density");
    if (density < 1) before = density;
    const named = model.get("min_density") > 0 ? "too dense or too rare" : `denser than ${formatPercent(density)}`;
    const features = colouring.nAside > 0 ? [`${formatPlural(colouring.nAside, "feature")} ${named}`] : [];
    const parts = [...features, ...tokens];
    aside.textContent = all()
      ? `No feature is set aside by its density${tokens.length > 0 ? `; set aside: ${tokens.join(", ")}` : ""}. `
      : `Set aside: ${parts.join(", ")}. `;
    toggle.hidden = colouring.nAside === 0 && !all();
    toggle.textContent = all() ? `Set aside those denser than ${formatPercent(before)}` : "Show these features";
    asideLine.hidden = parts.length === 0 && !all();
  };

  const draw = (colouring: Colouring) => {
    const by = model.get("colour_by");
    const feature = model.get("feature");
    const standout = by === "standout";
    title.textContent = standout
      ? "What stands out"
      : feature === null
        ? "Strongest activation of any feature"
        : `Activation of feature ${feature}`;
    const name = feature === null ? undefined : model.get("names")[String(feature)];
    const silent = standout ? colouring.nFound === 0 : colouring.top <= 0;
    const why = standout
      ? "Nothing stands out."
      : feature === null
        ? "No feature fires on this text."
        : "It does not fire on this text.";
    const count =
      standout && !silent ? `${colouring.shown.length} of ${formatPlural(colouring.nFound, "feature")}` : "";
    note.textContent = [name, count, silent ? why : ""].filter(Boolean).join(" \u00b7 ");
    note.hidden = note.textContent === "";
    const own = model.get("maxima_from") === "index" ? "of each feature's maximum" : "of the text's maximum";
    if (standout) scale.draw("100 %", own);
    else scale.draw(formatNumber(colouring.max));
    scale.element.hidden = silent || colouring.max <= 0;
    scale.element.classList.toggle("sk-several", standout && colouring.shown.length > 1);
    list.hidden = !standout || silent;
    drawList(colouring.shown);
    if (standout) drawAside(colouring);
    else asideLine.hidden = true;
    explanation.textContent = model.get("explanation");
    explanation.hidden = !standout || explanation.textContent === "";
  };
  return { element, draw };
}

function legendChip(model: Model, each: Standout, place: number, n: number): HTMLElement {
  const { feature, name, bits, relative, nTokens } = each;
  const values: [string, string][] = [["stands out by ", `${formatNumber(bits)} bits`]];
  const action = "colour the text by it alone";
  const element = chip({ feature, name, values, action, slot: slotName(place, n) }, () => {
    setTraits<HighlightState>(model, { feature, colour_by: "feature" });
  });
  const most = `up to ${formatPercent(relative)} ${ofMaximum(model)}`;
  element.title = `${name || `feature ${feature}`}: the first on ${formatPlural(nTokens, "token")}, ${most}`;
  return element;
}
