// The contrast of two colours, by WCAG 2.2.

export type Rgb = readonly [red: number, green: number, blue: number]; // 0 to 255

/** The colour that "rgb(1, 2, 3)" names; null for anything else, transparency included. */
export function parseRgb(text: string): Rgb | null {
  const [, red, green, blue] = /^rgb\(\s*([\d.]+)[\s,]+([\d.]+)[\s,]+([\d.]+)\s*\)$/.exec(text) ?? [];
  return red === undefined ? null : [Number(red), Number(green), Number(blue)];
}

/** Relative luminance, 0 for black to 1 for white. */
export function luminance(colour: Rgb): number {
  const [red = 0, green = 0, blue = 0] = colour.map((value) => {
    const v = value / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** 1 for equal luminance to 21 for black and white; text needs 4.5. */
export function contrast(a: Rgb, b: Rgb): number {
  const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
