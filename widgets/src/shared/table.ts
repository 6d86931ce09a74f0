// Which features a browser shows, and in what order. saekit/widgets/feature_browser.py does the same; tests/cases.json
// tests both.

import { type Binary, toFloat32, toInt32, toStrings } from "./arrays";

export interface RawColumns {
  name?: Binary;
  density?: Binary;
  max?: Binary;
  n_firings?: Binary;
  promoted?: Binary;
  example?: Binary;
}

export interface Query {
  sort: string;
  descending: boolean;
  filter: string;
  min_density: number | null;
  max_density: number | null;
  hide_silent: boolean;
}

export const COLUMNS = ["feature", "name", "density", "max", "n_firings", "promoted", "example"] as const;
export const BEGIN = "\u0002"; // around the firing token in an example
export const END = "\u0003";

export class Columns {
  readonly name: string[];
  readonly density: Float32Array;
  readonly max: Float32Array;
  readonly n_firings: Int32Array;
  readonly promoted: string[];
  readonly example: string[];
  private haystack: string[] | null = null;

  constructor(raw: RawColumns | null | undefined) {
    this.name = toStrings(raw?.name);
    this.density = toFloat32(raw?.density);
    this.max = toFloat32(raw?.max);
    this.n_firings = toInt32(raw?.n_firings);
    this.promoted = toStrings(raw?.promoted);
    this.example = toStrings(raw?.example);
  }

  get length(): number {
    return this.density.length;
  }

  /** What the text filter looks through: name, promoted tokens and example, in lower case, made once. */
  text(feature: number): string {
    this.haystack ??= Array.from({ length: this.length }, (_, i) => {
      const example = (this.example[i] ?? "").replaceAll(BEGIN, "").replaceAll(END, "");
      return `${this.name[i] ?? ""}\n${this.promoted[i] ?? ""}\n${example}`.toLowerCase();
    });
    return this.haystack[feature] ?? "";
  }

  /** How well a filter's words name a feature: 0 when they are its number or name, 1 and 2 when they are in its name,
   * 3 otherwise. 2 is for names that say no more than what occurs: "mixed: a, b". */
  nameRank(feature: number, words: readonly string[]): number {
    const name = (this.name[feature] ?? "").toLowerCase();
    if (words.length === 0) return NOT_NAMED;
    if (words.join(" ") === name || (words.length === 1 && words[0] === String(feature))) return 0;
    if (!words.every((word) => word === String(feature) || name.includes(word))) return NOT_NAMED;
    return name.startsWith(MIXED) ? 2 : 1;
  }

  /** Whether a filter's words find a feature by its number or name. */
  isNamed(feature: number, words: readonly string[]): boolean {
    return this.nameRank(feature, words) < NOT_NAMED;
  }
}

const MIXED = "mixed:"; // as in saekit/index/name_spelling.py
const NOT_NAMED = 3;

/** The words of a filter, all of which must occur. */
export const filterWords = (filter: string): string[] => filter.toLowerCase().split(/\s+/).filter(Boolean);

/** Feature numbers that pass the filters, in the order asked for: with a text filter, those that it finds by number or
 * name before the others, the best named first. Equal values by feature number; missing ones last. */
export function selectFeatures(columns: Columns, query: Query): Int32Array<ArrayBuffer> {
  const words = filterWords(query.filter);
  const low = query.min_density === null ? -Infinity : Math.fround(query.min_density); // densities are 32-bit too
  const high = query.max_density === null ? Infinity : Math.fround(query.max_density);
  const kept: number[] = [];
  for (let i = 0; i < columns.length; i++) {
    const density = columns.density[i] ?? 0;
    if (query.hide_silent && (columns.n_firings[i] ?? 0) === 0) continue;
    if (!(density >= low && density <= high)) continue;
    if (words.length > 0 && !words.every((word) => word === String(i) || columns.text(i).includes(word))) continue;
    kept.push(i);
  }
  const inOrder = compare(columns, query.sort, query.descending);
  if (words.length === 0) return Int32Array.from(kept).sort(inOrder);
  const ranks = new Map(kept.map((i) => [i, columns.nameRank(i, words)]));
  const rank = (i: number) => ranks.get(i) ?? NOT_NAMED;
  return Int32Array.from(kept).sort((a, b) => rank(a) - rank(b) || inOrder(a, b));
}

function compare(columns: Columns, sort: string, descending: boolean): (a: number, b: number) => number {
  const sign = descending ? -1 : 1;
  if (sort === "name" || sort === "promoted" || sort === "example") {
    const values = columns[sort];
    return (a, b) => {
      const [x, y] = [values[a] ?? "", values[b] ?? ""];
      if ((x === "") !== (y === "")) return x === "" ? 1 : -1;
      return x === y ? a - b : x < y ? -sign : sign;
    };
  }
  if (sort !== "density" && sort !== "max" && sort !== "n_firings") return (a, b) => sign * (a - b);
  const values = columns[sort];
  return (a, b) => {
    const [x, y] = [values[a] ?? NaN, values[b] ?? NaN];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
    return sign * (x - y) || a - b;
  };
}

export const nPages = (n: number, size: number): number => Math.max(1, Math.ceil(n / Math.max(1, size)));

/** The page that can be shown: the one asked for, or the last there is. */
export const clampPage = (page: number, n: number, size: number): number =>
  Math.min(Math.max(0, page), nPages(n, size) - 1);
