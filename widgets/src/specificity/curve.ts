// Precision and recall along a threshold, from the activations themselves. Pure: arrays in, numbers out.

import { toFloat32, toInt32 } from "../shared/arrays";
import type { Band, Scores } from "./state";

export interface At {
  threshold: number;
  n: number; // firings at and above the threshold
  hits: number; // of these on the concept
  precision: number; // NaN where nothing fires
  recall: number; // NaN without a concept
  f1: number;
}

export interface Bin {
  low: number;
  high: number;
  n: number;
  hits: number;
}

export interface Curves {
  threshold: Float32Array;
  mean: Float32Array;
  low: Float32Array;
  high: Float32Array;
}

export class Curve {
  readonly value: Float32Array; // descending
  private readonly n: Int32Array;
  private readonly hits: Int32Array;
  readonly max: number;
  readonly nPositive: number;
  readonly nExamples: number;

  constructor(scores: Scores) {
    this.value = toFloat32(scores.value);
    this.n = toInt32(scores.n_firings);
    this.hits = toInt32(scores.n_hits);
    this.max = this.value[0] ?? 0;
    this.nPositive = scores.n_positive ?? 0;
    this.nExamples = scores.n ?? 0;
  }

  /** What a threshold gives: everything that fires at it or above. */
  at(threshold: number): At {
    const limit = Math.fround(threshold);
    return this.counted(
      threshold,
      this.first((value) => value < limit),
    );
  }

  /** The activation bins, equal parts of the range: bin i holds low < activation <= high. */
  bins(nBins: number): Bin[] {
    const edge = (i: number) => (this.max * i) / nBins;
    const above = (i: number) => {
      const limit = Math.fround(edge(i));
      return this.counted(0, i === nBins ? 0 : this.first((value) => value <= limit));
    };
    return Array.from({ length: nBins }, (_, i) => {
      const [from, to] = [above(i), above(i + 1)];
      return { low: edge(i), high: edge(i + 1), n: from.n - to.n, hits: from.hits - to.hits };
    });
  }

  /** The first place, strongest first, where `test` holds. */
  private first(test: (value: number) => boolean): number {
    let [low, high] = [0, this.value.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (test(this.value[middle] ?? 0)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private counted(threshold: number, end: number): At {
    const n = this.n[end - 1] ?? 0;
    const hits = this.hits[end - 1] ?? 0;
    const precision = n > 0 ? hits / n : Number.NaN;
    const recall = this.nPositive > 0 ? hits / this.nPositive : Number.NaN;
    const f1 = n + this.nPositive > 0 ? (2 * hits) / (n + this.nPositive) : Number.NaN;
    return { threshold, n, hits, precision, recall, f1 };
  }
}

/** The mean and range of the matched features, of "precision" or "recall". */
export function bandOf(band: Band | undefined, name: "precision" | "recall"): Curves | null {
  if (!band?.threshold) return null;
  return {
    threshold: toFloat32(band.threshold),
    mean: toFloat32(band[`${name}_mean`]),
    low: toFloat32(band[`${name}_low`]),
    high: toFloat32(band[`${name}_high`]),
  };
}
