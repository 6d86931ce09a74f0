// The synced traits of FeatureBrowser; the same names stand in saekit/widgets/feature_browser.py.

import type { AnyModel } from "@anywidget/types";
import type { CardTraits } from "../shared/card";
import type { WidgetState } from "../shared/refused";
import type { Query, RawColumns } from "../shared/table";

export interface BrowserState extends Query, CardTraits, WidgetState {
  columns: RawColumns;
  page: number;
  page_size: number;
}

export const FILTERS = ["filter", "min_density", "max_density", "hide_silent"] as const;
export const QUERY = [...FILTERS, "sort", "descending"] as const;

export type Model = AnyModel<BrowserState & Record<string, unknown>>;
