// Every widget's entry by the name of its bundle; build.mjs makes the module from the files of this folder.
declare module "widgets" {
  const widgets: Record<string, unknown>;
  export default widgets;
}
