import type { CardData } from "../src/shared/card";
import { HOSTILE } from "./support";

/** A card with a hostile text in every place that shows tokens. */
const context = {
  tokens: ["a", HOSTILE, "c"],
  bytes: {},
  acts: [0, 2, 1],
  centre: 1,
  activation: 2,
  document: 4,
  labels: { topic: HOSTILE },
};
export const cardData = (feature: number, silent = false): CardData => ({
  feature,
  stats: { density: 0.01, n_firings: silent ? 0 : 12, n_documents: 3, max: 2, mean: 1, std: 0.5, silent },
  histogram: { edges: [0, 1, 2], counts: silent ? [0, 0] : [9, 3] },
  top: silent ? [] : Array.from({ length: 12 }, () => context),
  intervals: Array.from({ length: 10 }, (_, i) => ({
    low: i / 5,
    high: (i + 1) / 5,
    count: i,
    share: i / 45,
    contexts: i ? [context] : [],
  })),
  promoted: [
    [HOSTILE, 0.5],
    [" b", 0.25],
  ],
  suppressed: [["c", -0.5]],
  neighbours: [
    [feature + 1, 0.9],
    [feature + 2, 0.8],
  ],
  names: { [feature + 1]: "some name" },
});
