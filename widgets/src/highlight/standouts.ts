// Which features stand out, and what colours each token. The same computation is in saekit/widgets/highlight_standouts.py
// and highlight_tables.py, so that Python's tables and the colours agree.

import { SparseActivations, toFloat32, toInt32 } from "../shared/arrays";
import type { Model } from "./state";

export interface Standout {
  feature: number;
  name: string;
  bits: number; // relative activation times rarity, summed over the tokens on which its is the largest, less what is expected
  relative: number; // the largest
  nTokens: number; // those tokens
}

export interface Colouring {
  heat: Float32Array; // of each token, 0 to 1
  slot: Int16Array; // which of `shown` colours it, -1 for none
  shown: Standout[]; // most outstanding first
  nFound: number; // features that stand out, shown or not
  nAside: number; // features that fire but are too dense or too rare
  top: number; // largest activation, where one feature or the strongest colours
  max: number; // the one at full colour there
}

/** The activations of a text with the statistics of its features. Made once for each text, asked at each recolouring. */
export class TextFeatures {
  readonly activations: SparseActivations;
  readonly feature: Int32Array;
  readonly max: Float32Array;
  readonly density: Float32Array;
  readonly bits: Float32Array;
  private readonly nFirings: Int32Array; // of each feature
  private readonly row: Int32Array; // of each activation, the row of its feature in these; -1 for none

  constructor(model: Model) {
    const statistics = model.get("statistics");
    this.activations = SparseActivations.from(model.get("acts"));
    this.feature = toInt32(statistics.feature);
    this.max = toFloat32(statistics.max);
    this.density = toFloat32(statistics.density);
    this.bits = toFloat32(statistics.bits);
    const rows = new Int32Array(this.feature.reduce((a, b) => Math.max(a, b), -1) + 1).fill(-1);
    for (const [row, feature] of this.feature.entries()) rows[feature] = row;
    const { feature } = this.activations;
    this.row = new Int32Array(feature.length);
    this.nFirings = new Int32Array(this.feature.length);
    for (let j = 0; j < feature.length; j++) {
      const row = rows[feature[j] ?? -1] ?? -1;
      this.row[j] = row;
      if (row >= 0) this.nFirings[row] = (this.nFirings[row] ?? 0) + 1;
    }
  }

  /** Row of a feature in the statistics, -1 when it does not fire. */
  rowOf(feature: number): number {
    let [low, high] = [0, this.feature.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.feature[middle] ?? 0) < feature) low = middle + 1;
      else high = middle;
    }
    return this.feature[low] === feature ? low : -1;
  }

  /** An activation as a fraction of its feature's maximum, null where that is not known. */
  relative(feature: number, value: number): number | null {
    const max = this.max[this.rowOf(feature)] ?? 0;
    return max > 0 ? fraction(value, max) : null;
  }

  /** How much an activation stands out, whatever is set aside. */
  bitsOf(feature: number, value: number): number {
    const row = this.rowOf(feature);
    const max = this.max[row] ?? 0;
    return max > 0 ? fraction(value, max) * (this.bits[row] ?? 0) : 0;
  }

  densityOf(feature: number): number | null {
    return this.density[this.rowOf(feature)] ?? null;
  }

  /** What colours each token now. */
  colouring(model: Model): Colouring {
    return model.get("colour_by") === "standout" ? this.byStandouts(model) : this.byActivation(model);
  }

  private byActivation(model: Model): Colouring {
    const values = this.activations.activationsOf(model.get("feature"));
    const top = values.reduce((a, b) => Math.max(a, b), 0);
    const max = model.get("scale") ?? top;
    const heat = values.map((value) => (max > 0 ? fraction(value, max) : 0));
    const slot = new Int16Array(values.length).fill(-1);
    return { heat, slot, shown: [], nFound: 0, nAside: 0, top, max };
  }

  private byStandouts(model: Model): Colouring {
    const { start, value, length } = this.activations;
    const n = this.feature.length;
    const kept = this.kept(model);
    const least = model.get("min_relative");
    const totals = new Float64Array(n);
    const best = new Float64Array(n);
    const nTokens = new Int32Array(n);
    const score = new Float64Array(value.length);
    const relative = new Float32Array(value.length);
    for (let j = 0; j < this.row.length; j++) {
      const row = this.row[j] ?? -1;
      const max = this.max[row] ?? 0;
      if (row < 0 || !(max > 0)) continue;
      const share = fraction(value[j] ?? 0, max);
      relative[j] = share;
      if (!kept.keep[row] || share < least) continue;
      const bits = share * (this.bits[row] ?? 0);
      if (!(bits > 0)) continue;
      score[j] = bits;
      best[row] = Math.max(best[row] ?? 0, share);
    }
    for (let token = 0; token < length; token++) {
      let at = -1;
      for (let j = start[token] ?? 0; j < (start[token + 1] ?? 0); j++) {
        if ((score[j] ?? 0) > (score[at] ?? 0)) at = j;
      }
      const row = this.row[at] ?? -1;
      if (row < 0) continue;
      totals[row] = (totals[row] ?? 0) + (score[at] ?? 0);
      nTokens[row] = (nTokens[row] ?? 0) + 1;
    }
    const nCounted = model.get("excluded").reduce((sum, why) => sum + Number(why === ""), 0);
    for (let row = 0; row < n; row++) {
      const expected = 2 ** -(this.bits[row] ?? 0) * nCounted; // a feature that fires as anywhere does not stand out
      totals[row] = (totals[row] ?? 0) * Math.max(0, 1 - expected / Math.max(1, this.nFirings[row] ?? 0));
    }
    const found = [...totals.keys()].filter((row) => (totals[row] ?? 0) > 0);
    found.sort((a, b) => (totals[b] ?? 0) - (totals[a] ?? 0) || a - b);
    const rows = found.slice(0, model.get("n_features_shown"));
    const slotOf = new Int16Array(n).fill(-1);
    for (const [place, row] of rows.entries()) slotOf[row] = place;
    const heat = new Float32Array(length);
    const slot = new Int16Array(length).fill(-1);
    for (let token = 0; token < length; token++) {
      let most = 0;
      for (let j = start[token] ?? 0; j < (start[token + 1] ?? 0); j++) {
        const place = slotOf[this.row[j] ?? -1] ?? -1;
        if (place < 0 || (score[j] ?? 0) <= most) continue;
        most = score[j] ?? 0;
        slot[token] = place;
        heat[token] = relative[j] ?? 0;
      }
    }
    const names = model.get("names");
    const shown = rows.map((row) => ({
      feature: this.feature[row] ?? 0,
      name: names[String(this.feature[row])] ?? "",
      bits: totals[row] ?? 0,
      relative: best[row] ?? 0,
      nTokens: nTokens[row] ?? 0,
    }));
    return { heat, slot, shown, nFound: found.length, nAside: kept.nAside, top: 0, max: 1 };
  }

  /** Which rows the filters keep, and how many features their density sets aside. */
  private kept(model: Model): { keep: Uint8Array; nAside: number } {
    const leastBits = Math.fround(-Math.log2(Math.max(model.get("max_density"), 1e-12)));
    const leastDensity = Math.fround(model.get("min_density"));
    const words = model.get("filter").toLowerCase().split(/\s+/).filter(Boolean);
    const names = model.get("names");
    const keep = new Uint8Array(this.feature.length);
    let nAside = 0;
    for (const [row, feature] of this.feature.entries()) {
      if ((this.bits[row] ?? 0) < leastBits || (this.density[row] ?? 0) < leastDensity) nAside++;
      else if (words.length === 0) keep[row] = 1;
      else {
        const [number, name] = [String(feature), (names[String(feature)] ?? "").toLowerCase()];
        keep[row] = Number(words.every((word) => word === number || name.includes(word)));
      }
    }
    return { keep, nAside };
  }
}

const fraction = (value: number, max: number): number => Math.min(1, Math.max(0, value / max)) || 0;
