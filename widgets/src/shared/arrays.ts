// Numbers that came from Python as bytes. A DataView may start anywhere in a larger buffer, so values are copied out.

export type Binary = DataView | ArrayBuffer | Uint8Array;

function bytes(value: Binary | null | undefined): ArrayBuffer {
  if (!value) return new ArrayBuffer(0);
  if (value instanceof ArrayBuffer) return value;
  return value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) as ArrayBuffer;
}

export const f32 = (value: Binary | null | undefined): Float32Array => new Float32Array(bytes(value));
export const f64 = (value: Binary | null | undefined): Float64Array => new Float64Array(bytes(value));
export const i32 = (value: Binary | null | undefined): Int32Array => new Int32Array(bytes(value));

/** Strings sent as one UTF-8 block, separated by U+001F (which Python has removed from the strings themselves). */
export function strings(value: Binary | null | undefined): string[] {
  const block = bytes(value);
  return block.byteLength === 0 ? [] : new TextDecoder().decode(block).split("\u001f");
}

export interface Firing {
  feature: number;
  value: number;
}

/** The sparse activations of a text in compressed rows: token i owns entries start[i] to start[i + 1]. */
export class SparseRows {
  constructor(
    readonly start: Int32Array,
    readonly feature: Int32Array,
    readonly value: Float32Array,
  ) {}

  static from(acts: { start?: Binary; feature?: Binary; value?: Binary } | null | undefined): SparseRows {
    return new SparseRows(i32(acts?.start), i32(acts?.feature), f32(acts?.value));
  }

  get length(): number {
    return Math.max(0, this.start.length - 1);
  }

  /** The k strongest features of one token, strongest first; equal values by feature number. */
  strongest(row: number, k: number): Firing[] {
    const firings: Firing[] = [];
    for (let j = this.start[row] ?? 0; j < (this.start[row + 1] ?? 0); j++) {
      firings.push({ feature: this.feature[j] ?? 0, value: this.value[j] ?? 0 });
    }
    firings.sort((a, b) => b.value - a.value || a.feature - b.feature);
    return firings.slice(0, k);
  }

  count(row: number): number {
    return (this.start[row + 1] ?? 0) - (this.start[row] ?? 0);
  }

  /** One value per token: the activation of `feature`, or with null the strongest activation of any feature. */
  column(feature: number | null): Float32Array {
    const out = new Float32Array(this.length);
    for (let row = 0; row < out.length; row++) {
      for (let j = this.start[row] ?? 0; j < (this.start[row + 1] ?? 0); j++) {
        const value = this.value[j] ?? 0;
        if (feature === null ? value > (out[row] ?? 0) : this.feature[j] === feature) out[row] = value;
      }
    }
    return out;
  }
}
