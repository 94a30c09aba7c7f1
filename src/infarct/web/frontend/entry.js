export { DRAG_MODE, Niivue } from "@niivue/niivue";
