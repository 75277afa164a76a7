import jest from "./jest.cjs";

export const { useMockserver } = jest;
