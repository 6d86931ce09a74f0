// The histogram of activation densities: its bins on a shared logarithmic axis, and one bin in text.

import type { ChartData } from "../shared/charts/interactive";
import { axisScale } from "../shared/charts/scale";
import { formatCount, formatFixed, formatPercent, formatPlural } from "../shared/numbers";
import type { DensityHistogram } from "./state";

const BINS_PER_DECADE = 4;

/** The lowest decade among the histograms, as a power of ten. */
const lowestDecade = (densities: readonly DensityHistogram[]): number =>
  Math.min(-1, ...densities.map((d) => d.low ?? -1));

export const nBins = (densities: readonly DensityHistogram[]): number => -lowestDecade(densities) * BINS_PER_DECADE;

/** The chart of all histograms; null while there is none. */
export function densityData(densities: readonly DensityHistogram[]): ChartData | null {
  const known = densities.map((d, style) => ({ ...d, style })).filter((d) => d.counts);
  if (known.length === 0) return null;
  const low = lowestDecade(known);
  const n = nBins(known);
  const series = known.map(({ counts = [], style }) => ({
    style,
    values: [...new Array<number>(n - counts.length).fill(0), ...counts],
  }));
  const neverFired = known.map((d) => formatCount(d.never ?? 0)).join(" / ");
  const every = Math.ceil(-low / 6);
  const decades = Array.from({ length: -low + 1 }, (_, i) => low + i).filter((e) => e % every === 0);
  return {
    histogram: true,
    x: Array.from({ length: n + 1 }, (_, i) => i / n),
    series,
    notes: ["number of features", ...(known.some((d) => d.never) ? [`${neverFired} never fired`] : [])],
    xTicks: decades.map((e) => ({ position: (e - low) / -low, label: decadePercent(e) })),
    xTitle: "fraction of tokens on which a feature fires (log scale)",
    y: axisScale(
      series.flatMap((s) => s.values),
      { zero: true },
    ),
    description: "number of features by the fraction of tokens on which they fire",
  };
}

/** Bin i in text: its range, and by SAE the number of features in it. */
export function binText(
  densities: readonly DensityHistogram[],
  i: number,
): { range: string; counts: (string | null)[] } {
  const low = lowestDecade(densities);
  const edge = (bin: number) => formatPercent(10 ** (low + bin / BINS_PER_DECADE));
  const counts = densities.map(({ counts: c }) =>
    c ? formatPlural(c[i - nBins(densities) + c.length] ?? 0, "feature") : null,
  );
  return { range: `${edge(i)} to ${edge(i + 1)} of tokens`, counts };
}

/** 10^e in percent: 100 %, 1 %, 0.01 %. */
const decadePercent = (e: number): string => `${e >= -2 ? 10 ** (e + 2) : formatFixed(10 ** (e + 2), -e - 2)} %`;
