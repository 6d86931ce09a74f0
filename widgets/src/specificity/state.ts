// The synced traits of SpecificityPanel; the same names stand in saekit/widgets/specificity_traits.py.

import type { AnyModel } from "@anywidget/types";
import type { Binary } from "../shared/arrays";
import type { TokenContext } from "../shared/card_contexts";
import type { WidgetState } from "../shared/refused";

export type Unit = "token" | "document";
export type Measure = "average_precision" | "auroc" | "f1" | "precision";
type Maybe = number | null;

export interface Mark {
  at: number; // a flat position, or a document
  unit: Unit;
  counts: boolean;
}

export interface Snippet {
  document: number;
  tokens: string[];
  of: boolean[]; // whether each token is of the concept
  labels: Record<string, string>;
}

export interface Preview {
  concept?: string; // missing before there is one
  unit?: Unit;
  n_tokens?: number;
  n_documents?: number;
  snippets?: Snippet[];
  nothing?: string; // why nothing is scored
}

/** A row of the ranking; beside these fields each measure with its _low and _high. */
export interface Row {
  feature: number;
  choose: Maybe;
  p_value: Maybe;
  n_firings: Maybe;
  [column: string]: Maybe;
}

export interface Ranking {
  concept?: string;
  by?: Measure;
  unit?: Unit;
  documents?: string;
  few?: string;
  tested?: boolean;
  p_reason?: string;
  n_features?: Maybe;
  n_permutations?: Maybe;
}

export interface Band {
  n: number; // matched features
  threshold?: Binary;
  precision_mean?: Binary;
  precision_low?: Binary;
  precision_high?: Binary;
  recall_mean?: Binary;
  recall_low?: Binary;
  recall_high?: Binary;
}

export interface Scores {
  feature?: number; // missing before there are any
  unit?: Unit;
  n?: number;
  n_positive?: number;
  max?: number;
  value?: Binary; // distinct activations, strongest first
  n_firings?: Binary; // at and above each
  n_hits?: Binary;
  band?: Band;
}

export interface MarkedContext extends TokenContext {
  at: number;
  unit: Unit;
  group: "false alarm" | "hit" | "miss";
}

export interface MeasureRow {
  name: string;
  label: string;
  value: Maybe;
  low: Maybe;
  high: Maybe;
  n_units: Maybe;
  controls_mean: Maybe;
  controls_best: Maybe;
  reason: string;
}

export interface Measures {
  feature?: number;
  level?: number;
  rows?: MeasureRow[];
  protocol?: string;
  test?: string;
  notes?: string[];
  n_controls?: number;
}

export interface PickedLabel {
  shown: string;
  written: string;
  n: number;
}

export interface PanelState extends WidgetState {
  query: string;
  query_error: string;
  unit: string;
  by: string;
  n: number;
  feature: number;
  n_features: number;
  threshold: number;
  marks: Mark[];
  n_undo: number;
  labels: Record<string, PickedLabel[]>;
  corpus: { name?: string; n_tokens?: number; n_documents?: number };
  preview: Preview;
  rows: Row[];
  ranking: Ranking;
  names: Record<string, string>;
  scores: Scores;
  contexts: MarkedContext[];
  measures: Measures;
  status: string;
  progress: number;
  running: boolean;
  error: string;
  live: boolean;
}

export type Model = AnyModel<PanelState & Record<string, unknown>>;

export const MEASURES: Record<Measure, string> = {
  average_precision: "average precision",
  auroc: "AUROC",
  f1: "F1",
  precision: "precision",
};

/** Two decimals, three below 0.1, as in saekit's reports. */
export const short = (value: Maybe | undefined): string =>
  value === null || value === undefined || !Number.isFinite(value)
    ? "\u2013"
    : value.toFixed(value >= 0.0995 || value === 0 ? 2 : 3);

export const interval = (low: Maybe | undefined, high: Maybe | undefined): string =>
  low === null || low === undefined || high === null || high === undefined ? "" : `[${short(low)}, ${short(high)}]`;
