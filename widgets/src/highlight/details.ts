// One token in detail: its activation, and its strongest features as buttons that recolour the text.

import type { SparseActivations } from "../shared/arrays";
import { h } from "../shared/dom";
import { featureChip } from "../shared/feature_chip";
import { setTraits } from "../shared/model";
import { formatAligned, formatCount, formatNumber } from "../shared/numbers";
import { tokenWithBytes } from "../shared/tokens";
import type { HighlightState, Model } from "./state";

const N_FEATURES = 8;

const muted = (text: string, tag: "span" | "p" = "span"): HTMLElement => h(tag, { class: "sk-muted" }, text);

export function tokenDetails(model: Model, activations: SparseActivations, position: number): HTMLElement[] {
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
  if (reason) {
    line.append(h("span", {}, `not counted: ${reason}`));
    const more = "Such tokens are left out of training, statistics and steering, so no activations are shown for them.";
    return [line, muted(more, "p")];
  }
  if (feature !== null) {
    const value = activations.activationsOf(feature)[position];
    line.append(h("span", { class: "sk-num" }, `feature ${feature}: ${formatNumber(value)}`));
  }
  const n = activations.nActive(position);
  const fires =
    n === 0 ? "no feature fires here" : n === 1 ? "1 feature fires here" : `${formatCount(n)} features fire here`;
  line.append(muted(n > N_FEATURES ? `${fires}; the strongest ${N_FEATURES}:` : fires));
  const strongest = activations.topFeatures(position, N_FEATURES);
  const max = strongest[0]?.value ?? 1;
  const chips = strongest.map((activation) => chip(model, activation.feature, activation.value, max));
  const list = h(
    "div",
    { class: "sk-chips", role: "group", "aria-label": "Strongest features at this token" },
    ...chips,
  );
  return [line, list];
}

function chip(model: Model, feature: number, value: number, max: number): HTMLElement {
  const isCurrent = feature === model.get("feature");
  const name = model.get("names")[String(feature)];
  const words = { measure: "activation", action: "colour the text by it" };
  const content = { name, value: formatAligned(value), fraction: value / max, ...words };
  const element = featureChip(feature, content, (pressed) => {
    const details = pressed.closest(".sk-detail");
    setTraits<HighlightState>(model, { feature: isCurrent ? null : feature });
    // The chips were drawn again: the focus stays on the same one.
    details?.querySelector<HTMLElement>(`[data-feature="${feature}"]`)?.focus({ preventScroll: true });
  });
  element.setAttribute("aria-pressed", String(isCurrent));
  return element;
}
