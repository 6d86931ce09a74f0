// One token in detail: its activation, and its strongest features as buttons that recolour the text.

import type { FeatureActivation } from "../shared/arrays";
import { h } from "../shared/dom";
import { setTraits } from "../shared/model";
import { formatAligned, formatCount, formatNumber, formatPercent } from "../shared/numbers";
import { tokenWithBytes } from "../shared/tokens";
import { chip } from "./chips";
import type { Colouring, TextFeatures } from "./standouts";
import { type HighlightState, type Model, ofMaximum } from "./state";
import { slotName } from "./text_view";

const N_FEATURES = 8;

const muted = (text: string, tag: "span" | "p" = "span"): HTMLElement => h(tag, { class: "sk-muted" }, text);

export function tokenDetails(
  model: Model,
  features: TextFeatures,
  colouring: Colouring,
  position: number,
): HTMLElement[] {
  const token = model.get("tokens")[position];
  if (token === undefined) {
    const hint = "Point at a token to see its features; click it to select it. Arrow keys move between tokens.";
    return [muted(hint, "p")];
  }
  const feature = model.get("feature");
  const reason = model.get("excluded")[position] ?? "";
  const line = h(
    "div",
    { class: "sk-detail-line" },
    h("code", {}, tokenWithBytes(model.get("tokens"), position, model.get("bytes"))),
    muted(`token ${position}`),
  );
  if (position === model.get("selected")) line.append(muted("selected"));
  if (reason === "not read") return [line, muted("This token is not read.", "p")];
  if (reason) {
    line.append(h("span", {}, `not counted: ${reason}`));
    const more = "Such tokens are left out of training, statistics and steering, so no activations are shown for them.";
    return [line, muted(more, "p")];
  }
  if (feature !== null) {
    const value = features.activations.activationAt(position, feature);
    line.append(h("span", { class: "sk-num" }, `feature ${feature}: ${formatNumber(value)}`));
  }
  const n = features.activations.nActive(position);
  const fires =
    n === 0 ? "no feature fires here" : n === 1 ? "1 feature fires here" : `${formatCount(n)} features fire here`;
  const standout = model.get("colour_by") === "standout";
  const listed = listedFeatures(features, colouring, position, standout);
  const which = standout ? "those that stand out most" : `the strongest ${listed.length}`;
  line.append(muted(n > listed.length ? `${fires}; ${which}:` : fires));
  const chips = listed.map((each) => featureChip(model, features, colouring, each));
  const list = h("div", { class: "sk-chips", role: "group", "aria-label": "Features at this token" }, ...chips);
  return [line, list];
}

/** By what stands out those in the legend first, then by how much each does here; else the strongest. */
function listedFeatures(
  features: TextFeatures,
  colouring: Colouring,
  position: number,
  standout: boolean,
): FeatureActivation[] {
  if (!standout) return features.activations.topFeatures(position, N_FEATURES);
  const shown = new Set(colouring.shown.map((each) => each.feature));
  const scored = features.activations
    .topFeatures(position, Number.POSITIVE_INFINITY)
    .map((each) => ({ each, own: Number(shown.has(each.feature)), bits: features.bitsOf(each.feature, each.value) }));
  scored.sort((a, b) => b.own - a.own || b.bits - a.bits); // stable: equal ones by activation
  return scored.slice(0, Math.max(N_FEATURES, scored.filter(({ own }) => own).length)).map(({ each }) => each);
}

function featureChip(model: Model, features: TextFeatures, colouring: Colouring, each: FeatureActivation): HTMLElement {
  const { feature, value } = each;
  const isCurrent = feature === model.get("feature");
  const relative = features.relative(feature, value);
  const density = features.densityOf(feature);
  const name = model.get("names")[String(feature)] ?? "";
  const place = colouring.shown.findIndex((shown) => shown.feature === feature);
  const values: [string, string][] = [["activation ", formatAligned(value)]];
  if (relative !== null) values.push([`${ofMaximum(model)}: `, `${Math.round(100 * relative)} %`]);
  if (density !== null) values.push(["", `density ${formatPercent(density)}`]);
  const slot = place >= 0 ? slotName(place, colouring.shown.length) : null;
  const content = { feature, name, values, action: "colour the text by it", slot, fraction: relative ?? 0 };
  const element = chip(content, (pressed) => {
    const details = pressed.closest(".sk-detail");
    const next = isCurrent ? { feature: null, colour_by: "standout" } : { feature, colour_by: "feature" };
    setTraits<HighlightState>(model, next);
    // The chips were drawn again: the focus stays on the same one.
    details?.querySelector<HTMLElement>(`[data-feature="${feature}"]`)?.focus({ preventScroll: true });
  });
  if (relative !== null) element.title = `${formatNumber(value)}, ${formatPercent(relative)} ${ofMaximum(model)}`;
  element.setAttribute("aria-pressed", String(isCurrent));
  return element;
}
