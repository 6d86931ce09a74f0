// The synced traits of TokenHighlight; the same names stand in saekit/widgets/highlight_traits.py.

import type { AnyModel } from "@anywidget/types";
import type { Binary } from "../shared/arrays";
import type { WidgetState } from "../shared/refused";

export interface HighlightState extends WidgetState {
  tokens: string[];
  bytes: Record<string, string>;
  excluded: string[];
  acts: { start?: Binary; feature?: Binary; value?: Binary };
  statistics: { feature?: Binary; max?: Binary; density?: Binary; bits?: Binary };
  maxima_from: string;
  explanation: string;
  n_features: number;
  names: Record<string, string>;
  colour_by: string;
  feature: number | null;
  n_features_shown: number;
  min_density: number;
  max_density: number;
  min_relative: number;
  filter: string;
  selected: number;
  scale: number | null;
  reading: boolean;
  n_read: number;
  status: string;
  error: string;
}

export type Model = AnyModel<HighlightState & Record<string, unknown>>;

export const MAX_SHOWN = 12; // as in saekit/widgets/highlight_traits.py
export const MAX_FILTER = 500;
export const N_HUES = 6; // further features have the same hues with a broken underline

/** Traits that decide which features colour the text, and how. */
export const COLOURING = [
  "acts",
  "statistics",
  "names",
  "colour_by",
  "feature",
  "n_features_shown",
  "min_density",
  "max_density",
  "min_relative",
  "filter",
  "scale",
] as const;

/** Whose maximum activations are a fraction of. */
export const ofMaximum = (model: Model): string =>
  model.get("maxima_from") === "index" ? "of its maximum" : "of the text's maximum";

/** The name of a feature as it stands behind its number in spoken text. */
export const spokenName = (model: Model, feature: number): string => {
  const name = model.get("names")[String(feature)];
  return name ? `, ${name}` : "";
};
