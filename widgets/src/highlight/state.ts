// The synced traits of TokenHighlight; the same names stand in saekit/widgets/token_highlight.py.

import type { AnyModel } from "@anywidget/types";
import type { Binary } from "../shared/arrays";
import type { WidgetState } from "../shared/refused";

export interface HighlightState extends WidgetState {
  tokens: string[];
  bytes: Record<string, string>;
  excluded: string[];
  acts: { start?: Binary; feature?: Binary; value?: Binary };
  n_features: number;
  names: Record<string, string>;
  feature: number | null;
  selected: number;
  scale: number | null;
}

export type Model = AnyModel<HighlightState & Record<string, unknown>>;
